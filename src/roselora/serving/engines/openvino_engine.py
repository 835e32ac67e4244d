"""Asks OpenVINO GenAI, which loads what optimum-intel converts: a merged folder, or an adapter's base."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino
import openvino_genai
from optimum.exporters.openvino import main_export


def answers(kind: str, path: str, base: str, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int] | str]:
    """See `engines`."""
    options = {"EXECUTION_MODE_HINT": "ACCURACY"}  # of itself it rounds activations and the cache
    with tempfile.TemporaryDirectory() as folder:
        main_export(
            path if kind == "model" else base, folder, task="text-generation-with-past", library_name="transformers"
        )
        if kind == "lora":
            adapter = openvino_genai.Adapter(str(Path(path, "adapter_model.safetensors")))
            pipe = openvino_genai.LLMPipeline(folder, "CPU", adapters=openvino_genai.AdapterConfig(adapter), **options)
        else:
            pipe = openvino_genai.LLMPipeline(folder, "CPU", **options)
        config = openvino_genai.GenerationConfig(max_new_tokens=tokens)
        found: list[list[int] | str] = []
        for prompt in prompts:
            made = pipe.generate(openvino.Tensor(np.array([list(prompt)], dtype=np.int64)), config)
            found.append(list(made.tokens[0]))
    return found
