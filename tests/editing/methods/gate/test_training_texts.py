"""The texts of a gated neuron edit."""

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
