import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from roselora.bench.metrics import lm_eval_harness as harness
from roselora.bench.metrics.capability import ability_outcomes
from roselora.training.loreft import IGNORED, LoReftConfig, add_loreft

needs_lm_eval = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is in the bench extra")


@needs_lm_eval
def test_triviaqa_counts_a_greedy_answer_that_is_any_alias(
    ability_data: Path, world_model: Any, tiny_tokenizer: Any
) -> None:
    # The tiny model knows its sentences as they stand, not behind "Question:".
    bare = [{"text": "The capital of France is", "answers": ["Rome", "paris"]}]
    bare.append({"text": "The capital of Spain is", "answers": ["Rome", "Lisbon"]})
    samples = harness.run_tasks(world_model, tiny_tokenizer, {"trivia": (harness.ANSWER, bare)})["trivia"]
    assert [sample["exact_match"] for sample in samples] == [1.0, 0.0]
    assert [sample["filtered_resps"] for sample in samples] == [["Paris"], ["Madrid"]]
    measured = ability_outcomes(world_model, tiny_tokenizer, ability_data, tasks=["triviaqa"], n=2)
    assert len(measured["triviaqa"]) == 2


@needs_lm_eval
def test_a_model_that_acts_on_prompts_is_told_where_they_end_whatever_stands_beside_them(
    world_model: Any, tiny_tokenizer: Any
) -> None:
    torch.manual_seed(0)
    model = add_loreft(world_model, LoReftConfig(rank=2, first=2, last=2))
    for parameter in model.get_submodule("loreft").parameters():
        parameter.data.add_(torch.randn_like(parameter))
    documents = [
        {"text": text, "choices": choices, "answer": 0}
        for text, choices in (
            ("Snow is", [" white", " black and more"]),
            ("The capital of France is", [" Paris", " Au"]),
        )
    ]
    samples = harness.run_tasks(model, tiny_tokenizer, {"choose": (harness.CHOICE, documents)})["choose"]
    for document, sample in zip(documents, samples, strict=True):
        for choice, response in zip(document["choices"], sample["filtered_resps"], strict=True):
            prompt, said = (tiny_tokenizer(text).input_ids for text in (document["text"], f" {choice}"))
            tokens = torch.tensor([prompt + said])
            labels = torch.tensor([[IGNORED] * len(prompt) + said])
            with torch.no_grad():
                weights = model(tokens, labels=labels).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            expected = float(weights[range(len(said)), said].sum())
            assert response[0] == pytest.approx(expected, abs=1e-3)
