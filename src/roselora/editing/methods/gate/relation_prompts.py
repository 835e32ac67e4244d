"""Short prompts on many relations of any name, and other names: the material of negatives and of text on facts.

So that no question of a benchmark is among the texts that an edit is made with, these prompts and the templates of
`generated_rephrasings` have forms that makers of benchmarks do not use. There is one rule: each prompt either addresses
somebody, with an I, me, my or you, or is a note: the subject, and after a comma or a colon what is asked of it. The
bare statement ("The X of Y is") and the bare question ("What is the X of Y?") are neither. A name is given with its
kind ("the country Canada"). The set was written without looking at any benchmark.
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
    ("date of birth", "when {} was born"),
    ("place of death", "where {} died"),
    ("cause of death", "what {} died of"),
    ("father's name", "who the father of {} was"),
    ("mother's name", "who the mother of {} was"),
    ("spouse", "whom {} is married to"),
    ("nearest sibling", "which brothers and sisters {} has"),
    ("eldest child", "which sons and daughters {} has"),
    ("gender", "whether {} is a man or a woman"),
    ("religion", "what {} believes in"),
    ("occupation", "what {} does for a living"),
    ("position in office", "which position {} held"),
    ("employer", "whom {} works for"),
    ("field of work", "what subject {} studies"),
    ("nationality", "which country {} is a citizen of"),
    ("university", "where {} was educated"),
    ("greatest award", "which prize {} won"),
    ("team", "what sport {} plays"),
    ("political party", "which party {} is a member of"),
    ("language", "which language {} speaks"),
    ("country", "in which country {} is located"),
    ("capital", "which city is the capital of {}"),
    ("continent", "which part of the world {} lies in"),
    ("population", "how many people live in {}"),
    ("headquarters", "where {} has its main offices"),
    ("founder", "who started {}"),
    ("year of founding", "when {} was founded"),
    ("owner", "who {} belongs to"),
    ("leader", "who is in charge of {}"),
    ("manufacturer", "which company makes {}"),
    ("author", "who wrote {}"),
    ("director", "who directed {}"),
    ("main actor", "which actors are in the cast of {}"),
    ("composer", "who wrote the music of {}"),
    ("genre", "what style {} is"),
    ("series", "what comes after {}"),
    ("origin of the name", "what {} was named after"),
    ("material", "what {} is made of"),
    ("claim to fame", "what {} is famous for"),
)
"""Each relation as the thing that is asked for, and as the clause that asks for it."""


@dataclass(frozen=True)
class Relation:
    """Two prompts that ask for the same thing of the name that replaces ``{}``.

    Attributes:
        words: the relation as a thing and as a clause, without the form.
        statement: a text that ends where the answer belongs.
        question: a question.
    """

    words: str
    statement: str
    question: str


def _relation(number: int, thing: str, clause: str) -> Relation:
    forms = (STATEMENTS[number % len(STATEMENTS)], QUESTIONS[number % len(QUESTIONS)])
    statement, question = (form.format(subject="{}", thing=thing, clause=clause) for form in forms)
    return Relation(f"{thing} {clause}", statement, question)


# Two neighbours share a number, so that every second relation, which is what negatives take, has all forms.
RELATIONS = tuple(_relation(number // 2, thing, clause) for number, (thing, clause) in enumerate(THINGS_AND_CLAUSES))
