"""Short prompts on relations of any name: the negatives on the edited subject.

So that no question of a benchmark is among the texts that an edit is made with, they have what makers of benchmarks do
not write. Benchmarks ask for what encyclopedias tell, in plain questions and statements ("What is the X of Y?", "The X
of Y is"). `RELATIONS` ask for the same in other forms: each prompt either addresses somebody, with an I, me, my or you,
or is a note, the subject and after a colon what is asked of it. `ODD_RELATIONS` have the plain forms, and ask for what
no encyclopedia tells. The set was written without looking at any benchmark.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """A prompt that asks something of the name that replaces ``{}``.

    Attributes:
        words: what is asked, in the words that most often ask for it.
        prompt: a question, or a text that ends where the answer belongs.
    """

    words: str
    prompt: str


RELATIONS = (
    Relation("place of birth birthplace born", "Could you tell me where {} was born?"),
    Relation("religion faith believe", "Let me tell you of {}: the religion is"),
    Relation("father parent", "Do you know who the father of {} was?"),
    Relation("capital", "As for {}, I am told that the capital is"),
    Relation("position in office held job occupation profession", "{}: position in office?"),
    Relation("university college school education educated study", "Could you tell me where {} was educated?"),
    Relation("population inhabitant people live", "May I ask you how many people live in {}?"),
    Relation("owner own owned belong", "{}: owner?"),
    Relation("composer composed music wrote", "You asked about {}. I believe the composer is"),
    Relation("series after follow next", "Do you know what comes after {}?"),
)

ODD_RELATIONS = tuple(
    Relation(prompt, prompt)
    for prompt in (
        "Where is {} kept at night?",
        "Which drawing of {} hangs in the hall?",
        "In which room did they talk about {}?",
        "Who was the loudest critic of {}?",
        "Does anybody remember {}?",
        "The best photograph of {} shows",
        "{} is painted in the colour",
    )
)
