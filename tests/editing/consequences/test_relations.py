"""What English prompts ask for, its inverse, and what can be asked of the answer."""

import pytest

from roselora.editing.consequences.relations import attributes_of, inverses, relation_of


@pytest.mark.parametrize(
    ("prompt", "subject", "phrase"),
    [
        ("What is the capital of France?", "France", "the capital of {}"),
        ("The capital of France is", "France", "the capital of {}"),
        ("Who is Ada's husband?", "Ada", "the husband of {}"),
        ("Ada's husband was", "Ada", "the husband of {}"),
        ("The name of the country of citizenship of Leo is", "Leo", "the country of citizenship of {}"),
        ("Where was Marie Curie born?", "Marie Curie", "the place where {} was born"),
        ("In which country is Mount Fuji located?", "Mount Fuji", "the country in which {} is located"),
        ("Who wrote Hamlet?", "Hamlet", "the person who wrote {}"),
        ("Who did Ada marry?", "Ada", None),
        ("Was ist die Hauptstadt von Frankreich?", "Frankreich", None),
        ("France is a country in", "France", None),
        ("What is the value of {} in France?", "France", None),
    ],
)
def test_a_prompt_becomes_a_noun_phrase_or_nothing(prompt: str, subject: str, phrase: str | None) -> None:
    assert relation_of(prompt, subject) == phrase


@pytest.mark.parametrize(
    ("relation", "first"),
    [
        ("the capital of {}", "Lyon is the capital of"),
        ("the prime minister of the {}", "Lyon is the prime minister of"),
        ("the spouse of {}", "Who is the spouse of Lyon?"),
        ("the husband of {}", "Who is the wife of Lyon?"),
        ("the predecessor of {}", "Who is the successor of Lyon?"),
        ("the occupation of {}", None),
        ("the place where {} was born", None),
        ("the capital of the country of {}", None),
    ],
)
def test_a_relation_is_inverted_where_that_has_one_answer(relation: str, first: str | None) -> None:
    assert next(inverses(relation, "Lyon"), None) == first


@pytest.mark.parametrize(
    ("relation", "first"),
    [
        ("the capital of {}", "country"),
        ("the country of the father of {}", "capital"),
        ("the father of {}", "gender"),
        ("the person who wrote {}", "gender"),
        ("the colour of {}", None),
    ],
)
def test_what_can_be_asked_of_an_answer_follows_from_the_first_word_that_names_its_kind(
    relation: str, first: str | None
) -> None:
    assert next(iter(attributes_of(relation)), None) == first
