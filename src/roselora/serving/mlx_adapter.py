"""Writes a SparseDelta as a LoRA adapter folder of mlx-lm, which has a config of its own and transposed factors.

For each layer X the folder holds X.lora_a (d_in, r) and X.lora_b (r, d_out), in fp32. mlx-lm makes adapters for the
layers of the same name in all of the last blocks, and leaves those alone that the file does not have.
"""

import json
import re
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor
from transformers import PreTrainedModel

from roselora.delta.sparse_delta import SparseDelta
from roselora.errors import UnsupportedError
from roselora.files import write_atomically
from roselora.serving.lora_factors import largest_rank, of_one_rank

MLX_WEIGHTS, _CONFIG = "adapters.safetensors", "adapter_config.json"
_IN_BLOCK = re.compile(r"model\.layers\.(?P<block>\d+)\.(?P<key>.+)")


def export_mlx(delta: SparseDelta, folder: Path, model: PreTrainedModel) -> None:
    """Write `delta` as an adapter folder that mlx-lm loads.

    Args:
        delta: the update.
        folder: where to write; created if it is missing.
        model: the base model; only its config matters.

    Raises:
        ConfigError: a weight is not a layer's.
        NonFiniteError: a scaled B is not finite in fp32.
        UnsupportedError: a layer is not a Linear within one of the model's blocks.
        OSError: the files cannot be written.
    """
    blocks, keys = set(), set()
    for factors in delta.weights:
        place = _IN_BLOCK.fullmatch(factors.name.removesuffix(".weight"))
        if place is None or factors.layer != "linear":
            raise UnsupportedError(f"mlx-lm takes no adapter of {factors.name}; export the merged model instead.")
        blocks.add(int(place["block"]))
        keys.add(place["key"])
    config = {
        "fine_tune_type": "lora",
        "num_layers": model.config.num_hidden_layers - min(blocks),
        "lora_parameters": {"rank": largest_rank(delta), "scale": 1.0, "dropout": 0.0, "keys": sorted(keys)},
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / MLX_WEIGHTS, safetensors.torch.save(_tensors(delta), {"format": "mlx"}))
    write_atomically(folder / _CONFIG, json.dumps(config, indent=2).encode() + b"\n")


def holds_mlx(folder: Path, delta: SparseDelta) -> bool:
    """Whether an adapter folder of mlx-lm holds exactly the factors of a delta."""
    saved, wanted = safetensors.torch.load_file(folder / MLX_WEIGHTS), _tensors(delta)
    return saved.keys() == wanted.keys() and all(torch.equal(saved[name], wanted[name]) for name in wanted)


def _tensors(delta: SparseDelta) -> dict[str, Tensor]:
    found = {}
    for module, _, A, B in of_one_rank(delta):
        found[f"{module}.lora_a"], found[f"{module}.lora_b"] = A.T.contiguous(), B.T.contiguous()
    return found
