"""What a run of the editing benchmark writes: a head that says what was run, and a record of each edit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator

from roselora.bench.records.failed_run import FailedRun
from roselora.bench.records.run_files import Setting, read_records
from roselora.bench.tasks.json_number import Number
from roselora.editing.store.provenance import without_removed_settings
from roselora.errors import FileFormatError

Mode = Literal["single", "sequential", "batch"]

FormName = Literal["bare", "chat"]
"""How a question is asked: as it stands, or as a user's turn of the model's chat template."""

LOCALITY_TOKENS = 16
"""How many tokens of the answer to a locality question are compared with the base model's."""

RENAMED = {"rose-neurons": "gate"}
"""Methods that once had another name, under which earlier versions wrote them."""

MethodName = Annotated[str, AfterValidator(lambda name: RENAMED.get(name, name))]


def _settings_of_today(methods: Mapping[str, Mapping[str, Setting]]) -> dict[str, dict[str, Setting]]:
    """The settings without those that earlier versions had and that had no effect."""
    dropped = {("no-edit", "seed"), ("grace", "batch_size")}
    return {
        method: {
            name: value
            for name, value in without_removed_settings(method, settings).items()
            if (method, name) not in dropped
        }
        for method, settings in methods.items()
    }


@dataclass(frozen=True)
class TokenAccuracy:
    """EasyEdit's teacher-forced scores of one edit: the share of answer tokens whose argmax is right.

    Only for comparison with published tables: they give partial credit and leak the answer's length.
    ``None`` and missing sub-types: the case has no such questions. ``locality`` compares with the base's argmax.
    """

    reliability: Number
    generalization: Number | None
    portability: Mapping[str, Number]
    locality: Mapping[str, Number]


@dataclass(frozen=True)
class FormScores:
    """How the edited model answers one case's questions, asked in one form, in free generation.

    Attributes:
        answer: the greedy answer to the edit's prompt.
        reliability: 1 if it equals the target after normalization, else 0.
        generalization: the share of rephrasings whose answer does, or None if the case has none.
        portability: by sub-type, the share of questions whose answer equals any alias.
        locality: by sub-type, the share of questions whose 16 greedy tokens are exactly the base model's.
        kl: mean KL(base || edited) of the next token after the locality questions, without those of the sub-types
            `APART`, in nats; None if there are none.
        kl_by: the same by sub-type, these included; earlier versions recorded none.
        behind_sentence: 1 if the answer to the prompt behind a sentence of small talk equals the target, else 0; None
            where it was not asked.
    """

    answer: str
    reliability: Number
    generalization: Number | None
    portability: Mapping[str, Number]
    locality: Mapping[str, Number]
    kl: Number | None
    kl_by: Mapping[str, Number] = field(default_factory=dict, kw_only=True)
    behind_sentence: Number | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Scores(FormScores):
    """The scores of the bare form, and what is measured in it alone.

    Attributes:
        fluency: entropy of 100 generated tokens, as in ROME, or None where it was not measured.
        token_accuracy: EasyEdit's scores.
    """

    fluency: Number | None
    token_accuracy: TokenAccuracy


@dataclass(frozen=True)
class Cost:
    """What one edit took.

    Attributes:
        seconds: wall time of the method's call, divided by its number of requests.
        peak_bytes: peak memory of the call, beyond what was allocated before it.
        entries: how many entries of the weights it changed, 0 for a side memory; None in a sequence or batch, whose
            edits are counted together in the head.
        steps: optimizer steps of the call, divided by its number of requests.
    """

    seconds: Number
    peak_bytes: int
    entries: int | None
    steps: Number


@dataclass(frozen=True)
class EditRecord:
    """One edit by one method. A failed one, which did not reach its target, has an ``error`` instead of scores.

    Attributes:
        case: the case's key.
        position: its place in the order of edits, from 0; in a sequential run its age is n - 1 - position.
        scores, chat: in the bare and in the chat form; None in a form that was not asked.

    Raises:
        ValueError: it has neither scores nor an error, or both.
    """

    FILE: ClassVar[str] = "records.jsonl"

    case: str
    method: MethodName
    position: int
    scores: Scores | None
    cost: Cost | None
    error: str | None = None
    chat: FormScores | None = None

    def __post_init__(self) -> None:
        if (self.scores is None and self.chat is None) == (self.error is None):
            raise ValueError("it must have either scores or an error")

    def in_form(self, form: FormName) -> FormScores | None:
        """Its scores in one form."""
        return self.scores if form == "bare" else self.chat


@dataclass(frozen=True)
class RunPart:
    """One command that made some of a run's edits, on one machine.

    Attributes:
        command: the command line that repeats it.
        methods: the methods that it ran.
        versions: of the libraries; ``machine``: processor, threads and device.
    """

    command: str
    methods: tuple[MethodName, ...]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class EditHead:
    """What was run: everything that is needed to run it again.

    Attributes:
        parts: the commands that made the run, in order; repeating one on the same machine adds no part.
        model: its name on the command line; ``model_sha256``: the fingerprint of its weights.
        dataset: the benchmark's name; ``data_sha256``: the hash of its file; ``data_file``: that file's name.
        mode: how edits follow each other.
        forms: in which questions are asked.
        n: how many cases are run, after the first ``skip`` of the shuffled order; ``skipped``: keys of cases that were
            left out as repeated or conflicting; ``without``: keys of cases that were left out of the draw because
            earlier runs had asked them.
        seed: of the choice of cases and of every method.
        fluency: whether it is measured.
        methods: by name, every setting.
        requests_per_call: by method, how many requests a call takes; None is all of them.
        loading_seconds: what it took to load the model; None in runs of earlier versions.
        preparation_seconds: by method, what it took to measure, before its first edit, what it needs of the model;
            what an earlier run had cached was only read.
        entries: by method, how many entries of the weights differ from the base's after all edits of a sequence.
        capability: by method (and "base"), measured after all edits, such as {"perplexity": 20.1}.
        failures: of the methods that were run last, what could not be run and so has no record.
    """

    parts: tuple[RunPart, ...]
    model: str
    model_sha256: str
    dataset: str
    data_file: str
    data_sha256: str
    mode: Mode
    n: int
    skip: int = 0
    skipped: tuple[str, ...]
    without: tuple[str, ...] = ()
    forms: tuple[FormName, ...] = ("bare",)
    seed: int
    fluency: bool
    methods: Annotated[Mapping[MethodName, Mapping[str, Setting]], AfterValidator(_settings_of_today)]
    requests_per_call: Mapping[MethodName, int | None]
    loading_seconds: Number | None = None
    preparation_seconds: Mapping[MethodName, Number] = field(default_factory=dict)
    entries: Mapping[MethodName, int] = field(default_factory=dict)
    capability: Mapping[MethodName, Mapping[str, Setting]] = field(default_factory=dict)
    failures: tuple[FailedRun, ...] = ()


def read_edit_records(folder: Path) -> list[EditRecord]:
    """The records of a run, as :func:`~roselora.bench.records.run_files.read_records` reads them.

    Raises:
        FileFormatError: a line is not a record, or repeats the method and case of an earlier one.
    """
    records = read_records(folder, EditRecord)
    lines: dict[tuple[str, str], int] = {}
    for number, record in enumerate(records, start=1):
        if (first := lines.setdefault((record.method, record.case), number)) < number:
            raise FileFormatError(
                f"Line {number} of {folder / EditRecord.FILE} repeats {record.method} on {record.case} of "
                f"line {first}; delete one of them."
            )
    return records
