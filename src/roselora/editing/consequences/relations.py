"""What an English prompt asks of its subject, the inverse of that, and what can be asked of the answer."""

import re
from collections.abc import Iterator

_BE = "(?:is|was|are|were)"
_NOUN_PHRASES = tuple(
    (re.compile(pattern, re.IGNORECASE), phrase)
    for pattern, phrase in (
        (rf"(?:what|who) {_BE} (the .*{{}}.*)", r"\1"),
        (rf"(the .*{{}}.*) {_BE}", r"\1"),
        (rf"(?:what|who) {_BE} {{}}'s (.+)", r"the \1 of {}"),
        (rf"{{}}'s (.+) {_BE}", r"the \1 of {}"),
        (rf"where ({_BE}) {{}} (.+)", r"the place where {} \1 \2"),
        (rf"in (?:which|what) (\w+) ({_BE}) {{}} (.+)", r"the \1 in which {} \2 \3"),
        (rf"who (?!(?:{_BE}|do|does|did|has|had)\b)(\w+ .*{{}}.*)", r"the person who \1"),
    )
)
"""Prompts without a mark at their end, with {} for the subject, and the noun phrase for what they ask."""

_INVERSES = {
    "spouse": "spouse",
    "husband": "wife",
    "wife": "husband",
    "successor": "predecessor",
    "predecessor": "successor",
}
"""Relations whose inverse has a name of its own."""

_OF_ONE = re.compile(
    "capital|(vice )?president|prime minister|chancellor|king|queen|monarch|head of (state|government)|mayor|governor|"
    "chief executive officer|CEO|chair(person|man|woman)|principal|(head )?coach|captain"
)
"""Relations in which one thing stands to one other: what a city is the capital of has one answer."""

_ATTRIBUTES = tuple(
    (frozenset(words.split()), attributes)
    for words, attributes in (
        (
            "country nation state citizenship nationality",
            ("capital", "official language", "currency", "continent"),
        ),
        (
            "capital city town village place birthplace location headquarters seat",
            ("country", "continent"),
        ),
        (
            "spouse husband wife father mother child son daughter brother sister sibling author writer director "
            "composer founder president minister chancellor king queen monarch head mayor governor officer ceo "
            "chairperson chairman captain coach owner inventor discoverer painter architect creator performer singer "
            "person",
            ("gender", "occupation", "country of citizenship", "place of birth"),
        ),
    )
)
"""By words of a noun phrase, what can be asked of what it stands for.

What the questions of KnowEdit's train files ask most often (`train_cf.json`: of a person 68 the gender, 38 the
occupation, 8 the citizenship and 5 the place of birth).
"""


def relation_of(prompt: str, subject: str) -> str | None:
    """What an English prompt asks for, as a noun phrase with ``{}`` for the subject; None for other prompts.

    >>> relation_of("Where was Marie Curie born?", "Marie Curie")
    'the place where {} was born'
    >>> relation_of("The name of the spouse of Ada is", "Ada")
    'the spouse of {}'
    """
    if "{" in prompt or "}" in prompt:
        return None
    asked = prompt.replace(subject, "{}").strip().rstrip("?:. ")
    for pattern, phrase in _NOUN_PHRASES:
        if found := pattern.fullmatch(asked):
            return "the" + found.expand(phrase)[3:].replace(" name of the ", " ", 1)
    return None


def inverses(relation: str, target: str) -> Iterator[str]:
    """Prompts that ask, of the target, what the relation's subject is; none where that has several answers.

    >>> list(inverses("the capital of {}", "Lyon"))
    ['Lyon is the capital of', 'What is Lyon the capital of?']
    """
    if found := re.fullmatch(r"the (.+) of (?:the )?{}", relation):
        name = found[1]
        if inverse := _INVERSES.get(name):
            yield from (f"Who is the {inverse} of {target}?", f"The {inverse} of {target} is")
        elif _OF_ONE.fullmatch(name):
            yield from (f"{target} is the {name} of", f"What is {target} the {name} of?")


def attributes_of(relation: str) -> tuple[str, ...]:
    """What can be asked of that which a noun phrase stands for.

    >>> attributes_of("the place where {} was born")
    ('country', 'continent')
    """
    words = re.findall(r"\w+", relation.lower())
    # The first word that is known, for "the country of the father" is a country.
    return next((more for word in words for kinds, more in _ATTRIBUTES if word in kinds), ())
