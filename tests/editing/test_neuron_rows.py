"""The texts of an edit by neurons."""

from typing import Any

import pytest

from roselora.editing import neuron_rows
from roselora.editing.neuron_rows import answer_rows, contrast_rows, nearest
from roselora.editing.request import EditRequest

REQUEST = EditRequest("Where was Ann Lee born?", "Rome", "Ann Lee")


def test_the_nearest_prompts_of_earlier_edits_are_looked_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neuron_rows, "HELD_PROMPTS", 3)
    held = ["Who made tea?", "Where did Ann Lee die?", REQUEST.prompt, "Where was Bo Fox born?", "Who made cocoa?"]
    assert nearest(REQUEST, held) == ["Where did Ann Lee die?", "Where was Bo Fox born?", "Who made cocoa?"]


def test_keep_prompts_are_all_looked_after(tiny_tokenizer: Any) -> None:
    request = EditRequest(REQUEST.prompt, "Rome", "Ann Lee", keep=("Snow is", "Coal is"))
    kept = contrast_rows(tiny_tokenizer, request, ["Who made tea?"])[2]
    assert [tiny_tokenizer.decode(row) for row in kept] == ["Snow is", "Coal is", "Who made tea?"]


def test_the_prompts_come_first_after_every_opening_and_then_the_rewordings(tiny_tokenizer: Any) -> None:
    rows = answer_rows(tiny_tokenizer, REQUEST)
    said = [tiny_tokenizer.decode([*row.head, *row.tail]) for row in rows.rows]
    assert rows.asked == len(neuron_rows.OPENINGS)
    assert said[0] == "Where was Ann Lee born? Rome"
    assert all(text.endswith(said[0]) for text in said[: rows.asked])
    assert said[rows.asked] == "Where is the born of Ann Lee? Rome"
    assert rows.labels[0, -1] == tiny_tokenizer.eos_token_id
