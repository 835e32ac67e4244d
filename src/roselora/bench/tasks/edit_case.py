"""The common form of every editing benchmark's records: a request, and the questions that test it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict

from roselora.bench.tasks.data_files import Record
from roselora.editing.answer_match import normalize
from roselora.editing.request import EditRequest
from roselora.user_files import shown

SAME_ANSWER = "Same_Answer"
"""The sub-type of locality questions whose answer is the edited fact's own old one.

Most of them ask for the very fact that is edited, so an edit that generalizes has to change their answer. They are
asked and reported, but count neither in locality's mean nor in the KL divergence.
"""

RELATION_SPECIFICITY = "Relation_Specificity"
"""KnowEdit's sub-type of locality questions that ask for other relations of the edit's subject."""

SAME_SUBJECT = "Same_Subject"
"""Our own questions about the edit's subject, in cases that have none under `RELATION_SPECIFICITY`."""

NEAREST = "Nearest_Question"
"""The prompt of the record of the same set that shares most words with the edit's and asks of another subject."""

APART = frozenset({SAME_ANSWER, SAME_SUBJECT, NEAREST})
"""Sub-types that are shown by themselves and are part neither of locality's mean nor of its KL divergence."""


@dataclass(frozen=True)
class Probe:
    """A question with the answers that a record names: any of them counts, and the first is EasyEdit's."""

    prompt: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class EditCase:
    """One record of an editing benchmark.

    Attributes:
        key: the benchmark and the record's number in its file, such as "zsre/17".
        prompt, target, subject: the request; ``subject`` is None where the record names none.
        rephrasings: prompts that must give the target too.
        portability: questions that follow from the new fact, by sub-type.
        locality: questions whose answers must not change, by sub-type.
        behind_sentence: the prompt behind a sentence of small talk, which must give the target too; None where it is
            not asked.
    """

    key: str
    prompt: str
    target: str
    subject: str | None = None
    rephrasings: tuple[str, ...] = ()
    portability: Mapping[str, tuple[Probe, ...]] = field(default_factory=dict)
    locality: Mapping[str, tuple[Probe, ...]] = field(default_factory=dict)
    behind_sentence: str | None = None

    @property
    def request(self) -> EditRequest:
        """What a method is given: none of the questions that test it."""
        return EditRequest(self.prompt, self.target, subject=self.subject)


class CaseRecord(Record):
    """A record of an editing benchmark in the format of its file; texts are stripped."""

    model_config = ConfigDict(str_strip_whitespace=True)

    def case(self, key: str) -> EditCase:
        """The case that the record describes."""
        raise NotImplementedError


def _answers(value: Any) -> tuple[str, ...]:
    """Every text in a ``ground_truth``, in order, once, however deeply the lists in it are nested."""
    found, waiting = [], [value]
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, list):
            waiting = [*item, *waiting]
        elif isinstance(item, str):
            found.append(item.strip())
        else:
            raise ValueError(f"{shown(item)} in it is not a text")
    return tuple(dict.fromkeys(filter(None, found)))


Answers = Annotated[tuple[str, ...], BeforeValidator(_answers)]
"""Aliases of an answer, written as a text, a list of texts, or a list of such lists; blank ones are dropped."""


@dataclass(frozen=True)
class Deduplicated:
    """Cases of which no two have the same prompt.

    Attributes:
        cases: those that remain, in order.
        repeated: keys of cases that were left out because an earlier one has the same prompt and target.
        conflicting: keys of cases that were left out because an earlier one has the same prompt and another target.
    """

    cases: tuple[EditCase, ...]
    repeated: tuple[str, ...]
    conflicting: tuple[str, ...]


def deduplicate(cases: Sequence[EditCase]) -> Deduplicated:
    """Keep the first case of each prompt: two answers to one question cannot both be right in one model.

    >>> cases = [EditCase("made/0", "Oslo is in", "Peru"), EditCase("made/1", "Oslo is in", "Chad")]
    >>> deduplicate(cases).conflicting
    ('made/1',)
    """
    kept: dict[str, EditCase] = {}
    repeated: list[str] = []
    conflicting: list[str] = []
    for case in cases:
        first = kept.setdefault(" ".join(case.prompt.split()).casefold(), case)
        if first is not case:
            same = normalize(first.target) == normalize(case.target)
            (repeated if same else conflicting).append(case.key)
    return Deduplicated(tuple(kept.values()), tuple(repeated), tuple(conflicting))
