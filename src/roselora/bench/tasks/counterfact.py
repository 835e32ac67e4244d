"""CounterFact in the format of the lifelong-editing stream of arXiv 2509.22072."""

from roselora.bench.tasks.case_reading import Record, answers, text
from roselora.bench.tasks.edit_case import EditCase, Probe

NEIGHBORHOOD = "Neighborhood"
"""CounterFact's own word for its locality: the same relation of another subject (Meng et al., 2022)."""


def to_case(key: str, record: Record) -> EditCase:
    """One rephrasing, behind an unrelated sentence as in CounterFact, and one neighbour that must not move."""
    neighbour = Probe(text(record, "locality_prompt"), answers(record["locality_ground_truth"]))
    return EditCase(
        key,
        text(record, "prompt"),
        text(record, "target_new"),
        text(record, "subject") or None,
        rephrasings=(text(record, "rephrase_prompt"),),
        locality={NEIGHBORHOOD: (neighbour,)},
    )
