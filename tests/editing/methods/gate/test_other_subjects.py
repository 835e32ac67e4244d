from typing import Any

import pytest

from roselora.editing.methods.gate import other_subjects as module
from roselora.editing.methods.gate.other_subjects import LONGER, other_subjects

PROMPT = "What is the capital of France?"


def saying(monkeypatch: pytest.MonkeyPatch, tokenizer: Any, entries: list[str]) -> list[str]:
    """Make the model end its lists in these ways; returns the lists that it is asked to go on with."""
    asked: list[str] = []

    def greedy(model: Any, tokenizer: Any, texts: list[str], *, max_new_tokens: int, **_: Any) -> list[list[int]]:
        asked.extend(texts)
        ends = [tokenizer(each, add_special_tokens=False)["input_ids"][:max_new_tokens] for each in entries]
        return [*ends, *[[]] * (len(texts) - len(ends))]

    monkeypatch.setattr(module, "greedy_tokens", greedy)
    return asked


def test_what_the_model_says_second_in_a_list_takes_the_subjects_place(
    world_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = saying(monkeypatch, tiny_tokenizer, ["taly", "pain, a country", "ome.\n3. Oslo"])
    found = other_subjects(world_model, tiny_tokenizer, PROMPT, "France", 3)
    begun = [text.removeprefix("1. France\n2.") for text in asked]
    assert all(text.strip()[0].isalpha() for text in begun)
    assert len(set(begun)) == 3
    longest = len("France") + LONGER  # of this tokenizer's letters, after the first
    names = [f"{begun[0].strip()}taly", f"{begun[1].strip()}{'pain, a country'[:longest]}", f"{begun[2].strip()}ome"]
    assert found == [PROMPT.replace("France", name.rstrip(", ")) for name in names]


@pytest.mark.parametrize("prompt", ["France has the capital", "Of France, the capital"])
def test_the_subject_may_stand_anywhere(
    prompt: str, world_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    saying(monkeypatch, tiny_tokenizer, ["taly"])
    (found,) = other_subjects(world_model, tiny_tokenizer, prompt, "France", 1)
    before, after = prompt.split("France")
    assert found.startswith(before)
    assert found.endswith(f"taly{after}")


def test_a_name_that_holds_the_subject_or_is_part_of_it_may_be_the_same(
    world_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_listed", lambda *_: ["marie", "Marie Curie's", "Marie Curie", "Ada", "Ada", ""])
    found = other_subjects(world_model, tiny_tokenizer, "Where was Marie Curie born?", "Marie Curie", 8)
    assert found == ["Where was Ada born?"]


def test_without_a_subject_the_second_half_is_said_anew(
    world_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = saying(monkeypatch, tiny_tokenizer, ["pain?"])
    (found,) = other_subjects(world_model, tiny_tokenizer, PROMPT, None, 1)
    assert asked[0].startswith("1. ital of France?\n2.")
    assert found.startswith(PROMPT[:14])
    assert found != PROMPT


def test_names_are_the_same_each_time_and_one_line_long(world_model: Any, tiny_tokenizer: Any) -> None:
    found = other_subjects(world_model, tiny_tokenizer, PROMPT, "France", 8)
    assert found == other_subjects(world_model, tiny_tokenizer, PROMPT, "France", 8)
    assert all(text.startswith("What is the capital of ") and "\n" not in text for text in found)
    assert PROMPT not in found
