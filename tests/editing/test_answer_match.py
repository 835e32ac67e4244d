"""Which answers count as the target."""

import pytest

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


def test_a_blank_answer_matches_nothing_and_a_symbol_matches_itself() -> None:
    assert not matches("", ["?", "", " "])
    assert matches("!", ["!"])
    assert not matches("C", ["C++"])
