"""Asks MLX through mlx-lm, which loads a merged folder, or an adapter of its own form beside the base."""

from collections.abc import Sequence

import mlx.core as mx
from mlx_lm import load
from mlx_lm.generate import generate_step

from roselora.serving.engines import Export


def answers(export: Export, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int] | str]:
    """See `engines`."""
    if export.kind == "mlx":
        model, tokenizer = load(export.base, adapter_path=export.path)
    else:
        model, tokenizer = load(export.path)
    found: list[list[int] | str] = []
    for prompt in prompts:
        made: list[int] = []
        for token, _ in generate_step(mx.array(list(prompt)), model, max_tokens=tokens):
            if int(token) in tokenizer.eos_token_ids:
                break
            made.append(int(token))
        found.append(made)
    return found
