"""Asks llama.cpp through xllamacpp, which loads a GGUF model, or an adapter beside the base's GGUF file."""

from collections.abc import Sequence

import xllamacpp


def answers(kind: str, path: str, base: str, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int] | str]:
    """See `engines`."""
    params = xllamacpp.CommonParams()
    params.model.path = path if kind == "gguf" else base
    params.n_ctx, params.n_parallel, params.warmup = max(map(len, prompts)) + tokens + 1, 1, False
    if kind == "gguf-lora":
        adapter = xllamacpp.CommonAdapterLoraInfo()
        adapter.path, adapter.scale = path, 1.0
        params.lora_adapters = [adapter]
    server = xllamacpp.Server(params)
    found: list[list[int] | str] = []
    for prompt in prompts:
        asked = {"prompt": list(prompt), "n_predict": tokens, "temperature": 0.0, "top_k": 1, "cache_prompt": False}
        found.append(str(server.handle_completions(asked)["choices"][0]["text"]))
    return found
