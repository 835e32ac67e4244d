"""ZsRE in MEND's format: questions with another answer, a rephrasing, and an unrelated question.

The published RoseLoRA code's set has a ``portability`` question a record; the lifelong stream of arXiv 2509.22072
has the same fields without it.
"""

from roselora.bench.tasks.case_reading import Record, answers, mapping, text
from roselora.bench.tasks.edit_case import EditCase, Probe

UNRELATED = "Unrelated"
"""The sub-type of MEND's locality: a question of Natural Questions, about nothing that was edited."""

REASONING = "Reasoning"
"""KnowEdit's name for MEND's portability: a question that takes the new answer and one known relation of it."""


def to_case(key: str, record: Record) -> EditCase:
    """``src`` is the prompt, ``alt`` the target, ``rephrase`` the rephrasing, ``loc`` the unrelated question."""
    return EditCase(
        key,
        text(record, "src"),
        text(record, "alt"),
        text(record, "subject") or None,
        rephrasings=(text(record, "rephrase"),),
        portability=_portability(record),
        locality={UNRELATED: (Probe(_question(text(record, "loc")), answers(record["loc_ans"])),)},
    )


def _portability(record: Record) -> dict[str, tuple[Probe, ...]]:
    if "portability" not in record:
        return {}
    question = mapping(record["portability"])
    return {REASONING: (Probe(text(question, "New Question"), answers(question["New Answer"])),)}


def _question(words: str) -> str:
    """A Natural Questions entry as a question: the file prefixes them with ``nq question: ``."""
    question = words.removeprefix("nq question: ").strip()
    return question if not question or question.endswith("?") else f"{question}?"
