"""What a run of the editing benchmark is to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from roselora.bench.methods.edit_method import Method
from roselora.bench.records.edit_bench_records import EditRecord, Mode
from roselora.bench.tasks.edit_case import EditCase


@dataclass(frozen=True)
class EditPlan:
    """What is to be run.

    Attributes:
        cases: in the order of the edits; no two have the same prompt.
        methods: by name, with their configs.
        mode: single: each edit on the unedited model; sequential: one call after another, scored after the last; batch:
            all requests in one call.
        folder: for checkpoints.
        fluency: whether 100 tokens are generated for each case and scored.
    """

    cases: tuple[EditCase, ...]
    methods: Mapping[str, Method]
    mode: Mode
    folder: Path
    fluency: bool = False

    def waiting(self, known: Sequence[EditRecord]) -> dict[str, int]:
        """How many edits of each method have no record yet."""
        made = {(record.method, record.case) for record in known}
        return {name: sum((name, case.key) not in made for case in self.cases) for name in self.methods}

    def requests_per_call(self, name: str) -> int | None:
        """How many requests one call of a method takes; None for all."""
        return {"single": 1, "batch": None, "sequential": self.methods[name].requests_per_call}[self.mode]

    def checkpoint(self, name: str) -> Path:
        """Where a method's checkpoint is."""
        return self.folder / f"{name}.checkpoint.safetensors"
