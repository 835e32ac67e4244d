"""WikiBio in KnowEdit's format: a passage, and the sentence that shall follow it (arXiv 2401.01286)."""

from roselora.bench.tasks.case_reading import Record, text
from roselora.bench.tasks.edit_case import EditCase
from roselora.bench.tasks.knowedit import probes


def to_case(key: str, record: Record) -> EditCase:
    """``text`` is the prompt, ``labels`` the target, ``concept`` the subject; there are no rephrasings."""
    return EditCase(
        key,
        text(record, "text"),
        text(record, "labels"),
        text(record, "concept") or None,
        locality=probes(record["locality"]),
    )
