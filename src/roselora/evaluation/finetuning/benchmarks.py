"""The fine-tuning benchmarks by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from roselora.evaluation.finetuning import arithmetic, commonsense
from roselora.evaluation.finetuning.shape import Read, Task


@dataclass(frozen=True)
class Benchmark:
    """Test sets that are asked after training on one mix.

    Attributes:
        protocols: whose prompts, decoding and extraction it can be run by.
        tasks: by a protocol's name its test sets by name.
        training_rows: ``prompt`` and ``completion`` of the mix, by protocol and data folder.
        mix: what the mix is called.
    """

    protocols: tuple[str, ...]
    tasks: Callable[[str], Mapping[str, Task]]
    training_rows: Callable[[str, Path | None], Read]
    mix: str


BENCHMARKS = {
    "commonsense": Benchmark(
        tuple(commonsense.PROTOCOLS), commonsense.tasks, commonsense.training_rows, commonsense.TRAINING_MIX
    ),
    "arithmetic": Benchmark(
        tuple(arithmetic.PROTOCOLS), arithmetic.tasks, arithmetic.training_rows, arithmetic.TRAINING_MIX
    ),
}
