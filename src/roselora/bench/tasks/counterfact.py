"""CounterFact in the format of the lifelong-editing stream of arXiv 2509.22072."""

from roselora.bench.tasks.edit_case import Answers, CaseRecord, EditCase, Probe

NEIGHBORHOOD = "Neighborhood"
"""CounterFact's own word for its locality: the same relation of another subject (Meng et al., 2022)."""


class CounterFactRecord(CaseRecord):
    """One edit with a rephrasing after an unrelated sentence, and a neighbouring question that must not change."""

    prompt: str
    target_new: str
    subject: str
    rephrase_prompt: str
    locality_prompt: str
    locality_ground_truth: Answers

    def case(self, key: str) -> EditCase:
        """The case that the record describes."""
        return EditCase(
            key,
            self.prompt,
            self.target_new,
            self.subject or None,
            rephrasings=(self.rephrase_prompt,),
            locality={NEIGHBORHOOD: (Probe(self.locality_prompt, self.locality_ground_truth),)},
        )
