"""Exports in llama.cpp itself: what was edited holds, and everything else is answered as by the merged model."""

from pathlib import Path
from typing import Any

import pytest

from roselora.editing.editor import Editor
from roselora.models import LoadedModel
from roselora.models.generation import greedy_answers
from roselora.models.tokenization import answer_of, encode
from roselora.serving.engines import Export
from tests.conftest import WORLD
from tests.editing.gate_edits import FACTORS, FRANCE, GOLD, SETTINGS
from tests.serving.tiny_gguf import write_gguf

llama_cpp = pytest.importorskip("roselora.serving.engines.llama_cpp", exc_type=ImportError)

PROMPTS = [f"{sentence.rpartition(' ')[0]} " for sentence in WORLD]


def answers(export: Export, tokenizer: Any) -> list[str]:
    """llama.cpp's answers to `PROMPTS`, of at most 16 tokens."""
    prompts = [encode(tokenizer, prompt) for prompt in PROMPTS]
    texts = llama_cpp.answers(export.kind, export.path, export.base, prompts, 16)
    return [answer_of(text) for text in texts]


def test_the_base_is_answered_alike_by_transformers_and_llama_cpp(
    world_model: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    base = write_gguf(tmp_path / "base.gguf", world_model, tiny_tokenizer)
    expected = greedy_answers(world_model, tiny_tokenizer, PROMPTS, max_new_tokens=16)
    assert answers(Export("gguf", str(base), ""), tiny_tokenizer) == expected


@pytest.mark.parametrize("format", ["gguf-lora", "gguf"])
def test_edits_of_unequal_ranks_hold_in_llama_cpp_and_other_answers_are_the_merged_models(
    world_model: Any, tiny_tokenizer: Any, tmp_path: Path, format: Any
) -> None:
    base = write_gguf(tmp_path / "base.gguf", world_model, tiny_tokenizer)
    world_model.name_or_path = str(base)
    editor = Editor(LoadedModel(world_model, tiny_tokenizer, str(base)), SETTINGS)
    edits = [editor.edit(*FRANCE, subject="France")]
    editor.settings = FACTORS
    edits.append(editor.edit(*GOLD, subject="gold"))
    ranks = {factors.rank for edit in edits for factors in editor.delta(edit.id).weights}
    assert len(ranks) > 1
    editor.export(tmp_path / "out", format)
    merged = editor.answers(PROMPTS)
    assert {FRANCE[1], GOLD[1]} <= set(merged)
    assert answers(Export(format, str(tmp_path / "out"), str(base)), tiny_tokenizer) == merged
