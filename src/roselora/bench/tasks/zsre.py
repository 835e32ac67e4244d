"""ZsRE in MEND's format: a question with a new answer, a rephrasing, and an unrelated question.

The set of the published RoseLoRA code has a ``portability`` question in each record; the lifelong stream of arXiv
2509.22072 has the same fields without it.
"""

from pydantic import Field

from roselora.bench.tasks.edit_case import Answers, CaseRecord, EditCase, Probe

UNRELATED = "Unrelated"
"""The sub-type of MEND's locality: a question of Natural Questions, about nothing that was edited."""

REASONING = "Reasoning"
"""KnowEdit's name for MEND's portability: a question that takes the new answer and one known relation of it."""


class PortabilityQuestion(CaseRecord):
    """A question that follows from the new answer."""

    question: str = Field(alias="New Question")
    answers: Answers = Field(alias="New Answer")


class ZsreRecord(CaseRecord):
    """``src`` is the prompt, ``alt`` the target, ``rephrase`` the rephrasing, ``loc`` the unrelated question."""

    src: str
    alt: str
    subject: str
    rephrase: str
    loc: str
    loc_ans: Answers
    portability: PortabilityQuestion | None = None

    def case(self, key: str) -> EditCase:
        """The case that the record describes."""
        portability = {}
        if self.portability is not None:
            portability[REASONING] = (Probe(self.portability.question, self.portability.answers),)
        return EditCase(
            key,
            self.src,
            self.alt,
            self.subject or None,
            rephrasings=(self.rephrase,),
            portability=portability,
            locality={UNRELATED: (Probe(_natural_question(self.loc), self.loc_ans),)},
        )


def _natural_question(text: str) -> str:
    """An entry of Natural Questions as a question: the file puts ``nq question: `` before it."""
    question = text.removeprefix("nq question: ").strip()
    return question if not question or question.endswith("?") else f"{question}?"
