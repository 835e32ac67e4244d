"""The texts of a gated neuron edit."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from roselora.editing.methods.gate import training_texts
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.layer_choice import editable_mlps
from roselora.editing.methods.gate.training_texts import negative_rows, positive_rows, read_last_tokens
from roselora.editing.request import EditRequest

REQUEST = EditRequest("Where was Ann Lee born?", "Rome", "Ann Lee")


def test_keep_prompts_are_all_looked_after(tiny_tokenizer: Any) -> None:
    request = EditRequest(REQUEST.prompt, "Rome", "Ann Lee", keep=("Snow is", "Coal is"))
    kept = negative_rows(tiny_tokenizer, request)[2]
    assert [tiny_tokenizer.decode(row) for row in kept] == ["Snow is", "Coal is"]


def test_the_prompts_come_first_after_every_opening_and_then_the_rephrasings(tiny_tokenizer: Any) -> None:
    rows = positive_rows(tiny_tokenizer, REQUEST)
    said = [tiny_tokenizer.decode([*row.prefix, *row.suffix]) for row in rows.rows]
    assert rows.prompts == len(training_texts.OPENINGS)
    assert said[0] == "Where was Ann Lee born? Rome"
    assert all(text.endswith(said[0]) for text in said[: rows.prompts])
    assert said[rows.prompts] == "Could you tell me where the born of Ann Lee is? Rome"
    assert rows.labels[0, -1] == tiny_tokenizer.eos_token_id


def test_the_prompts_are_asked_in_chat_too_with_the_opening_in_the_users_turn(chat_tokenizer: Any) -> None:
    rows = positive_rows(chat_tokenizer, REQUEST)
    said = [chat_tokenizer.decode([*row.prefix, *row.suffix]) for row in rows.rows]
    assert (rows.openings, rows.prompts) == (len(training_texts.OPENINGS), 3 * len(training_texts.OPENINGS))
    turn, answer = "<|im_start|>user\n{}<|im_end|>\n", "<|im_start|>assistant\nRome"
    for number, opening in enumerate(training_texts.OPENINGS):
        asked = opening + REQUEST.prompt
        system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        own = [f"{asked} Rome", turn.format(asked) + answer, system + turn.format(asked) + answer]
        assert said[3 * number : 3 * number + 3] == own
    alone = positive_rows(chat_tokenizer, replace(REQUEST, form="bare"))
    assert alone.prompts == alone.openings


def test_keep_prompts_are_kept_in_the_forms_in_which_the_edit_is_made(chat_tokenizer: Any) -> None:
    request = replace(REQUEST, keep=("Snow is",), form="chat")
    kept = [chat_tokenizer.decode(row) for row in negative_rows(chat_tokenizer, request)[2]]
    assert [text.startswith("<|im_start|>") and "Snow is<|im_end|>" in text for text in kept] == [True, True]


def test_rows_of_many_lengths_some_twice_are_read_as_each_by_itself(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_texts, "READ_TOGETHER", 3)
    model = tiny_model()
    mlp = editable_mlps(model, GateSettings())[0]
    rows = [[5, 9, 7], [8], [4, 4], [5, 9, 7], [8, 3, 6, 2], [9, 9], [8]]
    together = read_last_tokens(model, mlp, rows)
    for row, read in zip(rows, together, strict=True):
        assert torch.allclose(read, read_last_tokens(model, mlp, [row])[0], atol=1e-5)
