"""What a run of the editing benchmark will do, decided before anything is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from roselora.bench.methods.edit_method import Method
from roselora.bench.metrics.question_forms import in_form
from roselora.bench.records.edit_bench_records import (
    EditHead,
    EditRecord,
    FormName,
    Mode,
    RunPart,
    read_edit_records,
)
from roselora.bench.records.environment import machine, versions
from roselora.bench.records.run_files import HEAD, read_head
from roselora.bench.running.drawing import drawn
from roselora.bench.running.earlier_cases import asked_before
from roselora.bench.running.method_settings import as_plain
from roselora.bench.running.resumption import require_same_run, require_same_settings
from roselora.bench.tasks.added_questions import with_added_questions
from roselora.bench.tasks.edit_case import EditCase, deduplicate
from roselora.bench.tasks.edit_datasets import read_cases
from roselora.editing.request import EditRequest, Form
from roselora.errors import ConfigError
from roselora.models.fingerprint import fingerprint
from roselora.models.loading import LoadedModel

SAME_IN_ONE_FOLDER = {
    "model_sha256": "model",
    "dataset": "dataset",
    "data_sha256": "data file",
    "mode": "mode",
    "seed": "seed",
    "skip": "number of skipped cases",
    "without": "choice of cases that earlier runs had asked",
    "forms": "form of the questions",
    "fluency": "fluency setting",
}
"""Fields of the head that must be equal for all runs into one folder, with their names in messages."""


@dataclass(frozen=True)
class EditBenchRequest:
    """What the user asks for.

    Attributes:
        dataset: a name of ``tasks.edit_datasets``; ``data_dir``: where its files are, or None for the hub.
        methods: by name.
        mode: see :class:`EditPlan`.
        n: how many cases, or None for all.
        seed: of the choice of cases.
        folder: for records, checkpoints and reports.
        fluency: whether 100 tokens are generated for each case.
        capability: how many questions of each task of general ability are asked, of the base and after each method's
            sequence.
        seconds: the time budget, after which the run stops and can be resumed; None is no limit.
        command: the command line that repeats the run.
        skip: how many cases of the shuffled order to skip, so that no case of an earlier draw is drawn again.
        without: files that name cases which are not drawn, such as the records of earlier runs.
        form: in which edits are made and questions are asked; "both" is bare where the tokenizer has no chat template.
    """

    dataset: str
    data_dir: Path | None
    methods: Mapping[str, Method]
    mode: Mode
    n: int | None
    seed: int
    folder: Path
    fluency: bool
    capability: int
    seconds: float | None
    command: str
    skip: int = 0
    without: tuple[Path, ...] = ()
    form: Form = "both"


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
        forms: in which edits are made and questions are asked.
    """

    cases: tuple[EditCase, ...]
    methods: Mapping[str, Method]
    mode: Mode
    folder: Path
    fluency: bool = False
    forms: tuple[FormName, ...] = ("bare",)

    def request(self, case: EditCase) -> EditRequest:
        """What a method is given for a case: its fact, to be learnt in the forms that are asked."""
        return replace(case.request, form="both" if len(self.forms) > 1 else self.forms[0])

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


def make_plan(
    request: EditBenchRequest, loaded: LoadedModel, loading_seconds: float | None = None
) -> tuple[EditPlan, EditHead]:
    """What will be run, with the head that describes it; nothing is written.

    Args:
        loading_seconds: what it took to load the model, if that is known.

    Raises:
        ConfigError: the data cannot be read or holds too few cases, or the folder holds another run.
    """
    if request.capability and request.mode == "single":
        raise ConfigError("Capability is measured after all edits: ask for it with --mode sequential or batch.")
    if request.capability and request.data_dir is None:
        raise ConfigError("Capability reads its questions from --data-dir: name the folder.")
    data = read_cases(request.dataset, request.data_dir)
    unique = deduplicate(data.cases)
    if not unique.cases:
        raise ConfigError(f"{data.file} holds no cases of {request.dataset}.")
    without = asked_before(unique.cases, request.without, request.data_dir)
    drawn_cases = _drawn_cases(request, [case for case in unique.cases if case.key not in frozenset(without)])
    # Where all edits are in one model, the prompt of another of them may not be asked as a question that stays.
    edited = frozenset() if request.mode == "single" else frozenset(case.key for case in drawn_cases)
    cases = with_added_questions(drawn_cases, [case for case in unique.cases if case.key not in edited])
    forms = _forms(request, loaded)
    plan = EditPlan(cases, request.methods, request.mode, request.folder, request.fluency, forms)
    part = RunPart(request.command, tuple(request.methods), versions(), machine(loaded.model.device))
    head = EditHead(
        parts=(part,),
        model=Path(loaded.name).name if Path(loaded.name).exists() else loaded.name,
        model_sha256=fingerprint(loaded.model),
        dataset=Path(request.dataset).name,  # of a file of the user's own, without the folders above it
        data_file=data.file,
        data_sha256=data.sha256,
        mode=request.mode,
        n=len(cases),
        skip=request.skip,
        skipped=(*unique.repeated, *unique.conflicting, *data.left_out),
        without=without,
        forms=forms,
        loading_seconds=loading_seconds,
        seed=request.seed,
        fluency=request.fluency,
        methods={name: as_plain(method.config) for name, method in request.methods.items()},
        requests_per_call={name: plan.requests_per_call(name) for name in request.methods},
    )
    return plan, _joined(head, plan, bool(request.capability))


def _forms(request: EditBenchRequest, loaded: LoadedModel) -> tuple[FormName, ...]:
    """Those that are asked for; of both, only the bare one where the tokenizer has no other."""
    if request.form == "bare":
        return ("bare",)
    try:
        in_form(loaded.tokenizer, "Who?", "chat")
    except ConfigError:
        if request.form == "chat":
            raise
        return ("bare",)
    return ("chat",) if request.form == "chat" else ("bare", "chat")


def _drawn_cases(request: EditBenchRequest, cases: Sequence[EditCase]) -> tuple[EditCase, ...]:
    left = len(cases) - request.skip
    if left < 1:
        raise ConfigError(f"skip must be below {len(cases)}, the cases of {request.dataset}, not {request.skip}.")
    if request.n is not None and not 1 <= request.n <= left:
        after = f" after the first {request.skip}" if request.skip else ""
        raise ConfigError(f"n must be between 1 and {left}, the cases of {request.dataset}{after}, not {request.n}.")
    return tuple(drawn(cases, request.n, request.seed, request.skip))


def _joined(head: EditHead, plan: EditPlan, capability_asked: bool) -> EditHead:
    """The head of a folder that may hold an earlier part of the same run.

    Methods may be added, and more cases to single edits; everything else must be the same.
    """
    folder = plan.folder
    if not (folder / HEAD).exists():
        if (folder / EditRecord.FILE).exists():
            raise ConfigError(f"{folder} holds records without the {HEAD} that describes them; name another folder.")
        if (folder / "report.json").exists() and any(folder.glob(f"*/{HEAD}")):
            raise ConfigError(f"{folder} holds the parts of another benchmark's run; name another folder.")
        return head
    before = read_head(folder, EditHead)
    recorded = {record.method for record in read_edit_records(folder)}
    begun = recorded | {name for name in head.methods if plan.checkpoint(name).exists()}
    require_same_run(folder, before, head, SAME_IN_ONE_FOLDER)
    if head.mode != "single" and before.n != head.n:
        raise ConfigError(f"{folder} holds a {head.mode} run of {before.n} edits; name another folder for {head.n}.")
    require_same_settings(folder, {name: before.methods.get(name) for name in begun}, head.methods)
    if capability_asked and (late := [name for name in head.methods if name in recorded - before.capability.keys()]):
        raise ConfigError(
            f"The edits of {late[0]} in {folder} are scored and undone, so its capability cannot be measured any more; "
            "name another folder, or leave --capability out."
        )
    return replace(
        head,
        parts=(*(part for part in before.parts if part not in head.parts), *head.parts),
        n=max(head.n, before.n),
        loading_seconds=before.loading_seconds,
        preparation_seconds=before.preparation_seconds,
        methods={**before.methods, **head.methods},
        requests_per_call={**before.requests_per_call, **head.requests_per_call},
        entries=before.entries,
        capability=before.capability,
        failures=tuple(failure for failure in before.failures if failure.method not in head.methods),
    )
