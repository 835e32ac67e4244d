"""Summary of a run of a fine-tuning benchmark: each method's scores and costs, and the differences between methods."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roselora.bench.metrics.learning_rate_choice import chosen_units
from roselora.bench.metrics.run_summary import OURS
from roselora.bench.metrics.tuning_scores import Difference, MethodScore, differences, method_scores
from roselora.bench.records.run_files import BASE, read_head, read_records
from roselora.bench.records.tuning_bench_records import Answered, TrainedUnit, TuningHead


@dataclass(frozen=True)
class TuningSummary:
    """A run, finished or not.

    Attributes:
        units: every training run.
        methods: a row for each method that was trained or asked, at its chosen learning rate.
        differences: our method minus each other one.
    """

    head: TuningHead
    units: Sequence[TrainedUnit]
    methods: Sequence[MethodScore]
    differences: Sequence[Difference]

    def method(self, name: str) -> MethodScore | None:
        """The row of a method, if it has one."""
        return next((row for row in self.methods if row.method == name), None)

    def document(self) -> dict[str, Any]:
        """The part of `report.json` that every report has."""
        return {"methods": self.methods, f"{OURS}_less": self.differences}


def read_summary(folder: Path) -> TuningSummary:
    """Sum up the run that a folder holds.

    Raises:
        FileFormatError: it holds no run, or a damaged one.
    """
    head = read_head(folder, TuningHead)
    answers, units = read_records(folder, Answered), read_records(folder, TrainedUnit)
    chosen = chosen_units(units, head.question_seed, head.rates, head.seeds)
    rows = method_scores(answers, chosen, (BASE, *head.settings), tuple(head.asked))
    return TuningSummary(head, units, rows, differences(answers, OURS))
