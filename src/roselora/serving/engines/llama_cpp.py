"""Asks llama.cpp through xllamacpp, which loads a GGUF model, or an adapter beside the base's GGUF file."""

from collections.abc import Sequence

import xllamacpp

from roselora.serving.engines import Export


def answers(export: Export, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int] | str]:
    """See `engines`."""
    params = xllamacpp.CommonParams()
    params.model.path = export.path if export.kind == "gguf" else export.base
    params.n_ctx, params.n_parallel, params.warmup = max(map(len, prompts)) + tokens + 1, 1, False
    if export.kind == "gguf-lora":
        adapter = xllamacpp.CommonAdapterLoraInfo()
        adapter.path, adapter.scale = export.path, 1.0
        params.lora_adapters = [adapter]
    server = xllamacpp.Server(params)
    found: list[list[int] | str] = []
    for prompt in prompts:
        asked = {"prompt": list(prompt), "n_predict": tokens, "temperature": 0.0, "top_k": 1, "cache_prompt": False}
        found.append(str(server.handle_completions(asked)["choices"][0]["text"]))
    return found
