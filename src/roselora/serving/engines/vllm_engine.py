"""Asks vLLM, which loads a merged folder, or a LoRA adapter beside its base."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that ``--max-lora-rank`` takes; 16 is its default."""


def smallest_rank(rank: int) -> int:
    """The smallest rank that vLLM can be told, and that is enough, or the largest that there is."""
    return next((each for each in RANKS if each >= rank), RANKS[-1])


def answers(kind: str, path: str, base: str, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int] | str]:
    """See `engines`."""
    # One process, so that what is wrong is raised here.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    source, lora, options = path, None, {}
    if kind == "lora":
        rank = json.loads(Path(path, "adapter_config.json").read_bytes())["r"]
        source, lora, options = base, LoRARequest("edits", 1, path), {"max_lora_rank": smallest_rank(rank)}
    config = json.loads(Path(source, "config.json").read_bytes())
    llm = LLM(
        model=source,
        # Of itself it serves fp32 models in half precision.
        dtype=config.get("dtype") or config.get("torch_dtype") or "auto",
        max_model_len=max(map(len, prompts)) + tokens,
        kv_cache_memory_bytes=1 << 30,  # enough for such prompts; of itself it takes most of the device's memory
        enforce_eager=True,  # compiling takes longer than asking
        enable_lora=lora is not None,
        **options,
    )
    asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
    made = llm.generate(asked, SamplingParams(temperature=0.0, max_tokens=tokens), lora_request=lora)
    return [list(each.outputs[0].token_ids) for each in made]
