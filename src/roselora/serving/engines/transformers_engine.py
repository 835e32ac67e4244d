"""Asks transformers, which loads a merged folder."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from roselora.serving.engines import Export


def answers(export: Export, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int] | str]:
    """See `engines`."""
    return generated(AutoModelForCausalLM.from_pretrained(export.path, dtype="auto"), prompts, tokens)


@torch.no_grad()
def generated(model: Any, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int] | str]:
    """The greedy continuations, one prompt at a time, without what a model's generation config may penalize."""
    model.eval()
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=tokens,
        eos_token_id=model.generation_config.eos_token_id,
        pad_token_id=model.generation_config.pad_token_id,
    )
    found: list[list[int] | str] = []
    for prompt in prompts:
        ids = torch.tensor([list(prompt)])
        made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids))
        found.append(made[0, len(prompt) :].tolist())
    return found
