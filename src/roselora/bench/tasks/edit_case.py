"""The one shape of every editing benchmark's records: a request, and the questions that judge it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from roselora.editing.answer_match import normalize
from roselora.editing.request import EditRequest

SAME_ANSWER = "Same_Answer"
"""The sub-type of questions that must not move by their file, though their answer is the edited fact's own old one.

Most of them ask for the very fact that is edited, so that an edit which generalizes has to move them. They are asked
and shown, and are no part of locality's mean nor of the KL divergence.
"""


@dataclass(frozen=True)
class Probe:
    """A question, and the answers that a record names: any of them counts, the first is EasyEdit's."""

    prompt: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class EditCase:
    """One record of an editing benchmark.

    Attributes:
        key: where it stands in its file, such as "zsre/17": the same for the same file and record, always.
        prompt, target, subject: the request; ``subject`` is None where the record names none.
        rephrasings: prompts that must give the target too.
        portability: questions that follow from the new fact, by sub-type.
        locality: questions that must not move, by sub-type.
    """

    key: str
    prompt: str
    target: str
    subject: str | None = None
    rephrasings: tuple[str, ...] = ()
    portability: Mapping[str, tuple[Probe, ...]] = field(default_factory=dict)
    locality: Mapping[str, tuple[Probe, ...]] = field(default_factory=dict)

    @property
    def request(self) -> EditRequest:
        """What a method is told: nothing of the questions that judge it."""
        return EditRequest(self.prompt, self.target, subject=self.subject)


@dataclass(frozen=True)
class Deduplicated:
    """Cases of which no two ask for the same prompt.

    Attributes:
        cases: what is left, in order.
        repeated: keys of cases that were left out because an earlier one asks for the same target.
        conflicting: keys of cases that were left out because an earlier one asks for another target.
    """

    cases: tuple[EditCase, ...]
    repeated: tuple[str, ...]
    conflicting: tuple[str, ...]


def deduplicate(cases: Sequence[EditCase]) -> Deduplicated:
    """Keep the first case of each prompt: two answers to one question cannot both be right in one model."""
    kept: dict[str, EditCase] = {}
    repeated: list[str] = []
    conflicting: list[str] = []
    for case in cases:
        first = kept.setdefault(" ".join(case.prompt.split()).casefold(), case)
        if first is not case:
            same = normalize(first.target) == normalize(case.target)
            (repeated if same else conflicting).append(case.key)
    return Deduplicated(tuple(kept.values()), tuple(repeated), tuple(conflicting))
