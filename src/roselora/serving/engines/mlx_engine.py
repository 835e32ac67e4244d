"""Asks MLX through mlx-lm, which loads a merged folder, or an adapter of its own form beside the base."""

from collections.abc import Sequence

import mlx.core as mx
from mlx_lm import load
from mlx_lm.generate import generate_step


def answers(kind: str, path: str, base: str, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int] | str]:
    """See `engines`."""
    model, tokenizer = load(base, adapter_path=path) if kind == "mlx" else load(path)
    found: list[list[int] | str] = []
    for prompt in prompts:
        made: list[int] = []
        for token, _ in generate_step(mx.array(list(prompt)), model, max_tokens=tokens):
            if int(token) in tokenizer.eos_token_ids:
                break
            made.append(int(token))
        found.append(made)
    return found
