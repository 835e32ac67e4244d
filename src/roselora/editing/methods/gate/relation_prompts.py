"""Short prompts on many relations of any name: the negatives on the edited subject.

So that no question of a benchmark is among the texts that an edit is made with, they have what makers of benchmarks do
not write. Benchmarks ask for what encyclopedias tell, in plain questions and statements ("What is the X of Y?", "The X
of Y is"). `RELATIONS` ask for the same in other forms: each prompt either addresses somebody, with an I, me, my or you,
or is a note, the subject and after a comma or a colon what is asked of it. `ODD_PROMPTS` have the plain forms, and ask
for what no encyclopedia tells. The set was written without looking at any benchmark.
"""

from dataclasses import dataclass

STATEMENTS = (
    "You asked about {subject}. I believe the {thing} is",
    "As for {subject}, I am told that the {thing} is",
    "Let me tell you of {subject}: the {thing} is",
    "{subject}, {thing}:",
)
QUESTIONS = (
    "Could you tell me {clause}?",
    "Do you know {clause}?",
    "May I ask you {clause}?",
    "{subject}: {thing}?",
)
"""The forms take turns, so that the form does not tell what is asked."""

THINGS_AND_CLAUSES = (
    ("place of birth", "where {} was born"),
    ("place of death", "where {} died"),
    ("father's name", "who the father of {} was"),
    ("spouse", "whom {} is married to"),
    ("eldest child", "which sons and daughters {} has"),
    ("religion", "what {} believes in"),
    ("position in office", "which position {} held"),
    ("field of work", "what subject {} studies"),
    ("university", "where {} was educated"),
    ("team", "what sport {} plays"),
    ("language", "which language {} speaks"),
    ("capital", "which city is the capital of {}"),
    ("population", "how many people live in {}"),
    ("founder", "who started {}"),
    ("owner", "who {} belongs to"),
    ("manufacturer", "which company makes {}"),
    ("director", "who directed {}"),
    ("composer", "who wrote the music of {}"),
    ("series", "what comes after {}"),
    ("material", "what {} is made of"),
)
"""Each relation as the thing that is asked for, and as the clause that asks for it."""

ODD_PROMPTS = (
    "Where is {} kept at night?",
    "When did somebody last complain about {}?",
    "Which drawing of {} hangs in the hall?",
    "Why do children laugh about {}?",
    "In which room did they talk about {}?",
    "What is the weight of {} in pounds?",
    "Who was the loudest critic of {}?",
    "To whom did {} send flowers?",
    "Does anybody remember {}?",
    "What was the mood of {} this morning?",
    "The best photograph of {} shows",
    "The shoes of {} were made from",
    "{} is painted in the colour",
    "The door of {} opens to",
)


@dataclass(frozen=True)
class Relation:
    """A prompt that asks something of the name that replaces ``{}``.

    Attributes:
        words: what is asked, without the form.
        prompt: a question, or a text that ends where the answer belongs.
    """

    words: str
    prompt: str


def _relation(number: int, thing: str, clause: str) -> Relation:
    forms = STATEMENTS if number % 2 else QUESTIONS
    form = forms[number // 2 % len(forms)]
    return Relation(f"{thing} {clause}", form.format(subject="{}", thing=thing, clause=clause))


RELATIONS = tuple(_relation(number, *names) for number, names in enumerate(THINGS_AND_CLAUSES))
ODD_RELATIONS = tuple(Relation(prompt, prompt) for prompt in ODD_PROMPTS)
