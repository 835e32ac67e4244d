"""Asks transformers, which loads a merged folder, or PEFT, which loads a LoRA adapter beside its base."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig


@torch.no_grad()
def answers(kind: str, path: str, base: str, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int] | str]:
    """See `engines`."""
    model: Any = AutoModelForCausalLM.from_pretrained(path if kind == "model" else base, dtype="auto")
    # What the model's own config may penalize stays out. PEFT's model may generate by its base's config.
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=tokens,
        eos_token_id=model.generation_config.eos_token_id,
        pad_token_id=model.generation_config.pad_token_id,
    )
    if kind == "lora":
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, path)
    model.eval()
    found: list[list[int] | str] = []
    for prompt in prompts:  # one at a time: padding changes the last digits
        ids = torch.tensor([list(prompt)])
        made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids))
        found.append(made[0, len(prompt) :].tolist())
    return found
