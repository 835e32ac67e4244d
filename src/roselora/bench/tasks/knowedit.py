"""KnowEdit's formats: WikiData_recent, WikiData_counterfact, ZsRE, WikiBio (Zhang et al., 2024, arXiv 2401.01286)."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator

from roselora.bench.tasks.edit_case import SAME_ANSWER, Answers, CaseRecord, EditCase, Probe
from roselora.editing.answer_match import normalize

NUMBER = re.compile(r"^\d+[.)]\s+")


class KnowEditQuestion(CaseRecord):
    """A question with every alias of its answer."""

    prompt: str
    ground_truth: Answers


Questions = dict[str, list[KnowEditQuestion]]
"""By sub-type."""


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_several)]
"""A text, or a list of texts."""


class KnowEditRecord(CaseRecord):
    """A fact of WikiData_recent, WikiData_counterfact or ZsRE.

    Its rephrasings are ``rephrase_prompt`` (ZsRE) and ``generate_prompt`` (in some versions of WikiData_counterfact: a
    numbered list written by a model, whose numbers are removed, and whose notes in parentheses are left out). Sub-types
    keep the file's names, except that locality questions whose answer is one of the record's own old ones
    (``ground_truth``) are listed under `SAME_ANSWER`.
    """

    prompt: str
    target_new: str
    subject: str
    portability: Questions
    locality: Questions
    ground_truth: Answers = ()
    rephrase_prompt: Texts = ()
    generate_prompt: Texts = ()

    def case(self, key: str) -> EditCase:
        """The case that the record describes."""
        listed = [NUMBER.sub("", line) for line in self.generate_prompt]
        return EditCase(
            key,
            self.prompt,
            self.target_new,
            self.subject or None,
            rephrasings=(*self.rephrase_prompt, *(line for line in listed if not line.startswith(("(", ")")))),
            portability=_probes(self.portability),
            locality=_same_answers_apart(_probes(self.locality), self.ground_truth),
        )


class WikiBioRecord(CaseRecord):
    """A passage, and the sentence that is to follow it; there are no rephrasings."""

    text: str
    labels: str
    concept: str
    locality: Questions

    def case(self, key: str) -> EditCase:
        """The case that the record describes."""
        return EditCase(key, self.text, self.labels, self.concept or None, locality=_probes(self.locality))


def _probes(groups: Mapping[str, Sequence[KnowEditQuestion]]) -> dict[str, tuple[Probe, ...]]:
    return {
        subtype: tuple(Probe(question.prompt, question.ground_truth) for question in questions)
        for subtype, questions in groups.items()
    }


def _same_answers_apart(groups: Mapping[str, tuple[Probe, ...]], old: Sequence[str]) -> dict[str, tuple[Probe, ...]]:
    """The same questions, with those that one of the ``old`` answers answers in a sub-type of their own."""
    known = set(map(normalize, old))
    found: dict[str, tuple[Probe, ...]] = {}
    same: list[Probe] = []
    for subtype, probes in groups.items():
        same += [probe for probe in probes if known & set(map(normalize, probe.answers))]
        if others := tuple(probe for probe in probes if probe not in same):
            found[subtype] = others
    return found | ({SAME_ANSWER: tuple(same)} if same else {})
