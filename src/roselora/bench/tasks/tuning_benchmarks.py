"""The fine-tuning benchmarks by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from roselora.bench.tasks import arithmetic, commonsense, glue, instruct
from roselora.bench.tasks.glue_data import SETS
from roselora.bench.tasks.task import AnyTask, Read


@dataclass(frozen=True)
class Benchmark:
    """Test sets that are asked after training on one mix.

    Attributes:
        protocols: whose prompts, decoding and extraction it can be run by.
        tasks: by a protocol's name its test sets by name.
        training_rows: ``prompt`` and ``completion`` of the mix, or ``text`` and ``label``, by protocol and data folder.
        mix: what the mix is called.
        labels: the classes of a classifier, none of a regression, None of what generates text.
        selecting_rows: rows as of the mix that no test asks, to choose a learning rate by; None where there are none
            but the mix's own.
    """

    protocols: tuple[str, ...]
    tasks: Callable[[str], Mapping[str, AnyTask]]
    training_rows: Callable[[str, Path | None], Read]
    mix: str
    labels: tuple[str, ...] | None = None
    selecting_rows: Callable[[Path | None], Read] | None = None


def _glue(name: str) -> Benchmark:
    return Benchmark(
        protocols=(glue.PROTOCOL,),
        tasks=lambda protocol: {name: glue.task(name)},
        training_rows=lambda protocol, data_dir: glue.training_rows(name, data_dir),
        mix=f"GLUE's {name}",
        labels=glue.labels(name),
        selecting_rows=partial(glue.selecting_rows, name),
    )


BENCHMARKS: dict[str, Benchmark] = {
    "commonsense": Benchmark(
        tuple(commonsense.PROTOCOLS), commonsense.tasks, commonsense.training_rows, commonsense.TRAINING_MIX
    ),
    "arithmetic": Benchmark(
        tuple(arithmetic.PROTOCOLS), arithmetic.tasks, arithmetic.training_rows, arithmetic.TRAINING_MIX
    ),
    "instruct": Benchmark(tuple(instruct.PROTOCOLS), instruct.tasks, instruct.training_rows, instruct.TRAINING_MIX),
    **{f"glue/{name}": _glue(name) for name in SETS},
}
