import math

import pytest
import torch

from roselora.bench.metrics.divergence import kl_divergence, unmoved
from roselora.editing.answer_match import matches, normalize


@pytest.mark.parametrize(
    ("answer", "normalized"),
    [
        ("Paris.", "paris"),
        ("  The Netherlands! ", "netherlands"),
        ('"a lot"', "lot"),
        ("A", "a"),
        ("St. Petersburg", "st. petersburg"),
        ("Vitamin A", "vitamin a"),
        ("", ""),
        ("...", "..."),
        (" \n", ""),
        ("St. Louis.", "st. louis"),
        ("U.S.", "u.s"),
        ("\u201cThe Beatles\u201d", "beatles"),
        ("\u00abl\u2019\u00c9t\u00e9\u00bb", "l'\u00e9t\u00e9"),
        ("Cafe\u0301\u2026", "caf\u00e9"),
        ("\u300c\u6771\u4eac\u300d\u3002", "\u6771\u4eac"),
        ("C++", "c++"),
        ("\u00a1Hola!", "hola"),
        ("**Paris**", "paris"),
        ("STRASSE", "strasse"),
        ("new\u00a0York", "new york"),
    ],
)
def test_normalize_ignores_case_outer_punctuation_and_a_leading_article(answer: str, normalized: str) -> None:
    assert normalize(answer) == normalized


def test_an_answer_matches_any_alias_and_no_longer_text() -> None:
    assert matches("the U.S.A.", ["United States", "U.S.A"])
    assert not matches("Paris, France", ["Paris"])
    assert not matches("", ["Paris"])


def test_locality_is_token_for_token() -> None:
    assert unmoved([[1, 2], [3], []], [[1, 2], [3, 4], []]) == [True, False, True]
    with pytest.raises(ValueError, match="shorter"):
        unmoved([[1]], [])


def test_kl_is_in_nats_of_the_base_from_the_edited_model() -> None:
    base = torch.tensor([[0.5, 0.5], [1.0, 0.0]]).log()
    edited = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    by_hand = [0.5 * math.log(2) + 0.5 * math.log(2 / 3), math.log(2)]
    assert kl_divergence(base, edited).tolist() == pytest.approx(by_hand)
    assert kl_divergence(base, base).tolist() == [0.0, 0.0]


def test_a_blank_answer_matches_nothing_and_a_symbol_matches_itself() -> None:
    assert not matches("", ["?", "", " "])
    assert matches("!", ["!"])
    assert not matches("C", ["C++"])


def test_a_model_that_gives_nan_is_infinitely_far_away() -> None:
    base = torch.tensor([[0.5, 0.5], [1.0, 0.0]]).log()
    broken = torch.tensor([[math.nan, 0.0], [0.0, math.nan]])
    assert kl_divergence(base, broken).tolist() == [math.inf, math.inf]
