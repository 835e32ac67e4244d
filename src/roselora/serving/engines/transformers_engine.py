"""Asks transformers, which loads a merged folder."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from roselora.serving.engines import Export


def answers(export: Export, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int] | str]:
    """See `engines`."""
    return generated(AutoModelForCausalLM.from_pretrained(export.path, dtype="auto"), prompts, tokens)


@torch.no_grad()
def generated(model: Any, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int] | str]:
    """The greedy continuations, one prompt at a time, as a user's first script has it."""
    model.eval()
    found: list[list[int] | str] = []
    for prompt in prompts:
        ids = torch.tensor([list(prompt)])
        made = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens
        )
        found.append(made[0, len(prompt) :].tolist())
    return found
