"""The texts of a gated neuron edit."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from roselora.editing.methods.gate import training_texts
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.layer_choice import editable_mlps
from roselora.editing.methods.gate.training_texts import negative_texts, positive_rows, read_rows
from roselora.editing.request import EditRequest

REQUEST = EditRequest("Where was Ann Lee born?", "Rome", "Ann Lee")


def test_keep_prompts_are_all_looked_after(tiny_model: Any, tiny_tokenizer: Any) -> None:
    request = EditRequest(REQUEST.prompt, "Rome", "Ann Lee", keep=("Snow is", "Coal is"))
    assert negative_texts(tiny_model(), tiny_tokenizer, request)[-1] == ["Snow is", "Coal is"]


def test_negatives_stand_in_all_forms_in_turn(tiny_model: Any, chat_tokenizer: Any) -> None:
    usual, odd, renamed, _ = negative_texts(tiny_model(), chat_tokenizer, REQUEST)
    for group in (usual, odd, renamed):
        in_chat = [text.startswith("<|im_start|>user") for text in group]
        behind_system = [text.startswith("<|im_start|>system") for text in group]
        assert in_chat == [number % 3 == 1 for number in range(len(group))]
        assert behind_system == [number % 3 == 2 for number in range(len(group))]
    assert all("Ann Lee" in text for text in usual + odd)
    assert not any(REQUEST.prompt in text for text in renamed)


def test_the_prompts_come_first_after_every_opening_and_then_the_rephrasings(tiny_tokenizer: Any) -> None:
    rows = positive_rows(tiny_tokenizer, REQUEST)
    said = [tiny_tokenizer.decode([*row.prefix, *row.suffix]) for row in rows.rows]
    assert rows.prompts == 1 + len(training_texts.OPENINGS)
    assert said[0] == "Where was Ann Lee born? Rome"
    assert all(text.endswith(said[0]) for text in said[: rows.prompts])
    assert said[rows.prompts] == "Could you tell me where the born of Ann Lee is? Rome"
    assert rows.labels[0, -1] == tiny_tokenizer.eos_token_id


def test_the_prompts_are_asked_in_chat_too_with_the_opening_in_the_users_turn(chat_tokenizer: Any) -> None:
    rows = positive_rows(chat_tokenizer, REQUEST)
    said = [chat_tokenizer.decode([*row.prefix, *row.suffix]) for row in rows.rows]
    turn, answer = "<|im_start|>user\n{}<|im_end|>\n", "<|im_start|>assistant\nRome"
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    expected = []
    for opening in ("", *training_texts.OPENINGS):
        asked = opening + REQUEST.prompt
        expected += [f"{asked} Rome", turn.format(asked) + answer]
        expected += [] if opening else [system + turn.format(asked) + answer]
    assert said[: rows.prompts] == expected
    alone = positive_rows(chat_tokenizer, replace(REQUEST, form="bare"))
    assert alone.prompts == 1 + len(training_texts.OPENINGS)


def test_keep_prompts_are_kept_in_the_forms_in_which_the_edit_is_made(tiny_model: Any, chat_tokenizer: Any) -> None:
    request = replace(REQUEST, keep=("Snow is",), form="chat")
    kept = negative_texts(tiny_model(), chat_tokenizer, request)[-1]
    assert [text.startswith("<|im_start|>") and "Snow is<|im_end|>" in text for text in kept] == [True, True]


def test_rows_of_many_lengths_some_twice_are_read_as_each_by_itself(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_texts, "READ_TOGETHER", 3)
    model = tiny_model()
    mlp = editable_mlps(model, GateSettings())[0]
    rows = [[5, 9, 7], [8], [4, 4], [5, 9, 7], [8, 3, 6, 2], [9, 9], [8]]
    together = read_rows(model, mlp, rows)
    for row, read in zip(rows, together, strict=True):
        assert torch.allclose(read, read_rows(model, mlp, [row])[0], atol=1e-5)
