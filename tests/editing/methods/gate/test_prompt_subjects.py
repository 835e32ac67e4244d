import pytest

from roselora.editing.methods.gate.prompt_subjects import content_words, guess_subject


@pytest.mark.parametrize(
    ("prompt", "subject"),
    [
        ("The capital of France is", "France"),
        ("Where was Marie Curie born?", "Marie Curie"),
        ("The Eiffel Tower is located in the city of", "Eiffel Tower"),
        ("What is the name of the Bank of England in French?", "Bank of England"),
        ("The chemical symbol for gold is", "gold"),
        ("IBM was founded by", None),
        ("hello", None),
    ],
)
def test_the_subject_is_guessed(prompt: str, subject: str | None) -> None:
    assert guess_subject(prompt) == subject


def test_the_words_that_mean_something_are_compared_without_case_and_plural() -> None:
    assert content_words("What are the Names of the siblings of him?") == {"sibling", "him"}
