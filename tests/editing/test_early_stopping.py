import pytest

from roselora.editing.answer_match import matches
from roselora.editing.early_stopping import AnswerPrefixes

MATCHING = ["The U.S.A.", " “Cafe\u0301”", "an Été.", "** St. Louis **", "\n The Beatles", "C++"]
TARGETS = ["U.S.A", "Café", "été", "st. louis", "the beatles", "C++"]


@pytest.mark.parametrize("answer", MATCHING)
def test_no_beginning_of_an_answer_that_matches_is_refused(answer):
    assert matches(answer, TARGETS)
    assert all(AnswerPrefixes(TARGETS).can_match(answer[:end]) for end in range(len(answer) + 1))


@pytest.mark.parametrize("begun", ["Paris", "the U.S.B", "St. Louis, M", "Beatless"])
def test_an_answer_that_went_astray_is_refused(begun):
    assert not AnswerPrefixes(TARGETS).can_match(begun)
