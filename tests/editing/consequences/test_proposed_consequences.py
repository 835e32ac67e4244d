"""Which consequences are proposed, by what a model knows."""

from collections.abc import Sequence
from typing import Any

import pytest

from roselora.editing.consequences import known_names, proposed_consequences
from roselora.editing.request import EditRequest


def proposed(monkeypatch: pytest.MonkeyPatch, request: EditRequest, **known: str) -> list[tuple[str, ...]]:
    """Prompts, target and subject of each, where the model knows only what is given, by words with underscores."""
    knows = {phrase.replace("_", " "): name for phrase, name in known.items()}

    def names(model: Any, tokenizer: Any, phrases: Sequence[str]) -> list[str | None]:
        return [knows.get(phrase) for phrase in phrases]

    monkeypatch.setattr(proposed_consequences, "known_names", names)
    found = proposed_consequences.proposed_consequences(None, None, request)  # type: ignore[arg-type]
    return [(*fact.prompts, fact.target, fact.subject or "") for fact in found]


CAPITAL = EditRequest("What is the capital of France?", "Lyon", form="chat")


def test_a_capital_has_an_inverse_and_lies_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    found = proposed(monkeypatch, CAPITAL, the_continent_of_Lyon="Europe", the_country_of_Lyon="France")
    assert found == [
        ("Lyon is the capital of", "What is Lyon the capital of?", "France", "Lyon"),
        (
            "What is the continent of the capital of France?",
            "The continent of the capital of France is",
            "Europe",
            "France",
        ),
    ], "that Lyon is in France says nothing new"


def test_of_two_steps_with_one_answer_the_first_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    request = EditRequest("Where was Marie Curie born?", "Oslo")
    found = proposed(monkeypatch, request, the_country_of_Oslo="Norway", the_continent_of_Oslo="Norway")
    assert [prompts[0] for prompts in found] == ["What is the country of the place where Marie Curie was born?"]


def test_another_name_is_taken_if_it_leads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    request = EditRequest("The colour of Holland is", "blue", "Holland")
    there = {"another_name_of_Holland": "Netherlands"}
    assert proposed(monkeypatch, request, **there) == []
    back = {**there, "another_name_of_Netherlands": "Holland"}
    assert proposed(monkeypatch, request, **back) == [("The colour of Netherlands is", "blue", "Netherlands")]


def test_what_is_to_be_kept_or_says_nothing_is_not_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = EditRequest("The capital of France is", "Rome.", keep=("Rome is the capital of",))
    assert proposed(monkeypatch, kept) == []
    assert proposed(monkeypatch, EditRequest("The capital of France is", "France.")) == []


def test_nothing_follows_from_a_prompt_without_a_subject_or_with_two(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proposed(monkeypatch, EditRequest("it is", "so")) == []
    assert proposed(monkeypatch, EditRequest("The capital of France, or rather France, is", "Lyon", "France")) == []


def test_consequences_are_asked_in_the_form_of_the_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposed_consequences, "known_names", lambda _, __, phrases: [None] * len(phrases))
    (fact,) = proposed_consequences.proposed_consequences(None, None, CAPITAL)  # type: ignore[arg-type]
    assert fact.form == "chat"


def test_a_name_is_known_if_it_is_said_in_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([["Paris", "Oslo", ""], ["paris.", "Bergen", ""]])
    monkeypatch.setattr(known_names, "greedy_answers", lambda *_, **__: next(answers))
    assert known_names.known_names(None, None, ["one", "two", "three"]) == ["Paris", None, None]  # type: ignore[arg-type]
    assert known_names.known_names(None, None, []) == []  # type: ignore[arg-type]
