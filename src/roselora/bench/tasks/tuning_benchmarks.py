"""The fine-tuning benchmarks by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from roselora.bench.tasks import arithmetic, commonsense, glue, instruct
from roselora.bench.tasks.task import AnyTask, TaskData


@dataclass(frozen=True)
class Benchmark:
    """Test sets, and the training mix that a model learns before it is asked.

    Attributes:
        protocols: whose prompts, decoding and answer extraction it can be run with.
        tasks: the test sets by name, under a protocol.
        training_examples: of the mix, under a protocol and from a data folder: ``prompt`` and ``completion``, or
            ``text`` and ``label``.
        mix: the mix's name.
        labels: the classes of a classifier; empty for a regression, None where text is generated.
        validation_examples: examples that no test asks, by which a learning rate is chosen; None where there are none
            but the mix's own.
    """

    protocols: tuple[str, ...]
    tasks: Callable[[str], Mapping[str, AnyTask]]
    training_examples: Callable[[str, Path | None], TaskData]
    mix: str
    labels: tuple[str, ...] | None = None
    validation_examples: Callable[[Path | None], TaskData] | None = None


def _glue(name: str) -> Benchmark:
    return Benchmark(
        protocols=(glue.PROTOCOL,),
        tasks=lambda protocol: {name: glue.task(name)},
        training_examples=lambda protocol, data_dir: glue.training_examples(name, data_dir),
        mix=f"GLUE's {name}",
        labels=glue.labels(name),
        validation_examples=partial(glue.validation_examples, name),
    )


BENCHMARKS: dict[str, Benchmark] = {
    "commonsense": Benchmark(
        tuple(commonsense.PROTOCOLS), commonsense.tasks, commonsense.training_examples, commonsense.TRAINING_MIX
    ),
    "arithmetic": Benchmark(
        tuple(arithmetic.PROTOCOLS), arithmetic.tasks, arithmetic.training_examples, arithmetic.TRAINING_MIX
    ),
    "instruct": Benchmark(tuple(instruct.PROTOCOLS), instruct.tasks, instruct.training_examples, instruct.TRAINING_MIX),
    **{f"glue/{name}": _glue(name) for name in glue.SETS},
}
