"""What a run of the editing benchmark writes down: a head that says what was run, and one record an edit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Mode = Literal["single", "sequential", "batch"]

LOCALITY_TOKENS = 16
"""How far the continuation of a question that must not move is compared with the base model's."""


@dataclass(frozen=True)
class TokenAccuracy:
    """EasyEdit's teacher-forced scores of one edit, each the share of answer tokens whose argmax is right.

    Only for comparison with published tables: they give partial credit and leak the answer's length.
    ``None`` and missing sub-types: the case has no such questions. ``locality`` compares with the base's argmax.
    """

    reliability: float
    generalization: float | None
    portability: Mapping[str, float]
    locality: Mapping[str, float]


@dataclass(frozen=True)
class Scores:
    """What the edited model says to one case's questions, by itself (design, section 7).

    Attributes:
        answer: the greedy answer to the edit's prompt.
        reliability: 1 if it equals the target after normalization, else 0.
        generalization: the share of rephrasings whose answer does, or None if the case has none.
        portability: by sub-type, the share of questions whose answer equals any alias.
        locality: by sub-type, the share of questions whose 16 greedy tokens are the base model's, one for one.
        kl: mean KL(base || edited) of the next token after the locality questions, but for those of the sub-type
            `SAME_ANSWER`, in nats; None if there are none.
        fluency: entropy of 100 generated tokens, as in ROME, or None where it was not measured.
        token_accuracy: EasyEdit's scores.
    """

    answer: str
    reliability: float
    generalization: float | None
    portability: Mapping[str, float]
    locality: Mapping[str, float]
    kl: float | None
    fluency: float | None
    token_accuracy: TokenAccuracy


@dataclass(frozen=True)
class Cost:
    """What one edit took.

    Attributes:
        seconds: wall time of the method's call, divided by the requests that it took.
        peak_bytes: memory that the call needed at its peak, beyond what was there before it.
        entries: entries of the weights that it changed, 0 for a side memory; None where edits follow each other or
            share a call, for what they change together stands in the head.
        steps: optimizer steps of the call, divided by its requests.
    """

    seconds: float
    peak_bytes: int
    entries: int | None
    steps: float


@dataclass(frozen=True)
class EditRecord:
    """One edit of one method. A failed one, whose target was not reached, has an ``error``, and no scores.

    Attributes:
        case: the case's key.
        position: its place in the order of edits, from 0; in sequential runs its age is n - 1 - position.
    """

    case: str
    method: str
    position: int
    scores: Scores | None
    cost: Cost | None
    error: str | None = None


@dataclass(frozen=True)
class FailedRun:
    """What kept a method from giving any result, such as a bug or too little memory; it is tried again.

    Attributes:
        method: which; ``at``: where it was, such as the case's key.
        error: its kind and the first line of what it says.
    """

    method: str
    at: str
    error: str


@dataclass(frozen=True)
class RunPart:
    """One command that made some of a run's edits, on one machine.

    Attributes:
        command: the command line that repeats it.
        methods: the methods that it ran.
        versions: of the libraries; ``machine``: processor, threads and device.
    """

    command: str
    methods: tuple[str, ...]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class RunHead:
    """What was run: everything that is needed to run it again.

    Attributes:
        parts: the commands that made the run, in order; the same again on the same machine is no new part.
        model: the name it was asked for by; ``model_sha256``: the fingerprint of its weights.
        dataset: the benchmark's name; ``data_sha256``: the hash of its file; ``data_file``: that file's name.
        mode: how edits follow each other.
        n: cases that were to be run, after ``skip`` others of the seed's order; ``skipped``: keys that were left out
            as repeated or conflicting.
        seed: of the choice of cases and of every method.
        fluency: whether it was measured.
        methods: by name, every setting.
        requests_per_call: by method, how many requests each call took; None is all of them.
        entries: by method, how many entries of the weights differ from the base's after all edits of a sequence.
        failures: of the methods that were last tried, what of them could not be run; no record stands for it.
        capability: by method (and "base"), measured after all edits: e.g. {"perplexity": 20.1, "arc_challenge": .25}.
    """

    parts: tuple[RunPart, ...]
    model: str
    model_sha256: str
    dataset: str
    data_file: str
    data_sha256: str
    mode: Mode
    n: int
    skip: int
    skipped: tuple[str, ...]
    seed: int
    fluency: bool
    methods: Mapping[str, Mapping[str, Any]]
    requests_per_call: Mapping[str, int | None]
    entries: Mapping[str, int] = field(default_factory=dict)
    capability: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    failures: tuple[FailedRun, ...] = ()


def said(error: Exception) -> str:
    """An error's kind and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
