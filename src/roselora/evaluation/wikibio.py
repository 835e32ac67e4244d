"""WikiBio in KnowEdit's format: a passage, and the sentence that shall follow it (arXiv 2401.01286)."""

from roselora.evaluation.cases import EditCase
from roselora.evaluation.knowedit import probes
from roselora.evaluation.reading import Record, text


def to_case(key: str, record: Record) -> EditCase:
    """``text`` is the prompt, ``labels`` the target, ``concept`` the subject; there are no rephrasings."""
    return EditCase(
        key,
        text(record, "text"),
        text(record, "labels"),
        text(record, "concept") or None,
        locality=probes(record["locality"]),
    )
