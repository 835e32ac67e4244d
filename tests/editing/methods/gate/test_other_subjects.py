from typing import Any

import pytest
import torch

from roselora.editing.methods.gate import other_subjects as module
from roselora.editing.methods.gate.other_subjects import other_subjects

PROMPT = "What is the capital of France?"


def saying(monkeypatch: pytest.MonkeyPatch, tokenizer: Any, names: list[str]) -> list[list[str]]:
    """Make the model say these names; returns what it is asked to continue, and by how many tokens."""
    asked: list[list[str]] = []

    def sample(model: Any, starts: Any, *, new_tokens: int, seed: int) -> Any:
        asked.append([tokenizer.decode(starts[0, 1:].tolist()), str(new_tokens)])
        rows = [tokenizer(name, add_special_tokens=False)["input_ids"] for name in names]
        longest = max(map(len, rows))
        rows = [row + tokenizer("\n", add_special_tokens=False)["input_ids"] * (longest - len(row)) for row in rows]
        return torch.cat([starts[: len(rows)], torch.tensor(rows)], dim=1)

    monkeypatch.setattr(module, "sampled_tokens", sample)
    return asked


def test_a_name_that_the_model_says_takes_the_subjects_place(
    world_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = saying(monkeypatch, tiny_tokenizer, [" Italy", " Spain", " France", " Italy"])
    found = other_subjects(world_model, tiny_tokenizer, PROMPT, "France", 8)
    assert found[:2] == ["What is the capital of Italy?", "What is the capital of Spain?"]
    assert asked[0][0].endswith("the capital of")


def test_where_the_subject_comes_first_the_prompt_itself_shows_its_kind(
    world_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = saying(monkeypatch, tiny_tokenizer, ["Italy"])
    found = other_subjects(world_model, tiny_tokenizer, "France has the capital", "France", 1)
    assert found == ["Italy has the capital"]
    assert asked[0][0].startswith("France has the capital")


def test_without_a_subject_the_second_half_is_said_anew(
    world_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    saying(monkeypatch, tiny_tokenizer, [" Spain"])
    (found,) = other_subjects(world_model, tiny_tokenizer, PROMPT, None, 1)
    assert found.startswith(PROMPT[:12])
    assert found != PROMPT


def test_half_of_the_names_share_a_half_with_the_subject(
    world_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    saying(monkeypatch, tiny_tokenizer, [" Italy"])
    found = [text.split()[-1].rstrip("?") for text in other_subjects(world_model, tiny_tokenizer, PROMPT, "France", 8)]
    altered = [name for name in found if name != "Italy"]
    assert len(altered) > 1
    for name in altered:
        assert name.istitle()
        assert name[:2] == "Fr" or name[-2:] == "ce"


def test_names_are_the_same_each_time_and_one_line_long(world_model: Any, tiny_tokenizer: Any) -> None:
    found = other_subjects(world_model, tiny_tokenizer, PROMPT, "France", 8)
    assert found == other_subjects(world_model, tiny_tokenizer, PROMPT, "France", 8)
    assert all(text.startswith("What is the capital of ") and "\n" not in text for text in found)
    assert PROMPT not in found
