"""What can be said of a name: short prompts on many relations, and other names.

An edit's neurons shall stay silent where the same subject is asked something else, and where another subject is asked
the same. These are the prompts on which they learn to.

So that no question of a benchmark stands among what an edit is made with, these prompts, and the templates of
`generated_rephrasings` too, have forms that makers of benchmarks do not use. One rule makes them: each is either said
by somebody to somebody, and has an I, me, my or you, or is a note: the subject, and after a comma or a colon what is
wanted of it. The bare statement ("The X of Y is") and the bare question ("What is the X of Y?") are neither. Of a
name its kind is said too ("the country Canada"). The set was written without a look at any benchmark.
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
"""The forms take turns, so that what is asked cannot be told by the form in which it is asked."""

ASKED = (
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
"""Each relation as the thing that is wanted, and as the clause that asks for it."""


@dataclass(frozen=True)
class Relation:
    """Two prompts that ask the same of the name that is put in the place of ``{}``.

    Attributes:
        words: the relation as it is named and as it is asked for, without the form.
        statement: a text that breaks off where the answer belongs.
        question: a question.
    """

    words: str
    statement: str
    question: str


def _relation(number: int, thing: str, clause: str) -> Relation:
    forms = (STATEMENTS[number % len(STATEMENTS)], QUESTIONS[number % len(QUESTIONS)])
    statement, question = (form.format(subject="{}", thing=thing, clause=clause) for form in forms)
    return Relation(f"{thing} {clause}", statement, question)


# Neighbours share a number, so that every second relation, which is what an edit takes, has all forms.
RELATIONS = tuple(_relation(number // 2, thing, clause) for number, (thing, clause) in enumerate(ASKED))

NAMES = (
    "the painter Clara Hoffmann",
    "the country Canada",
    "the novel The Silver Tide",
    "the metal copper",
    "the company Nissan Motor",
    "the plant geranium",
    "the city of Warsaw",
    "the footballer Lars Nygaard",
    "the river Tagus",
    "the school Fairview High",
    "the singer Maria Castellano",
    "the ship HMS Halcyon",
    "the protein interferon alpha-2",
    "the aircraft Lockheed Electra",
    "the record label Green Harbour",
    "the asteroid 4512",
)
"""Names of many kinds, to be asked what an edit's subject is asked."""
