"""Between a plain LoRA adapter folder of PEFT and a SparseDelta.

PEFT names: base_model.model.X.lora_A.weight (r, d_in), base_model.model.X.lora_B.weight (d_out, r); for an
embedding base_model.model.X.lora_embedding_A (r, vocabulary) and lora_embedding_B (dimension, r).
"""

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import pad

from roselora.delta.layer_kinds import layer_factors, layer_kind, require_own_weight
from roselora.delta.sparse_delta import FLOAT_DTYPES, SparseDelta, SparseFactors
from roselora.errors import ConfigError, FileFormatError, NonFiniteError, UnsupportedError
from roselora.files import dtype_name, write_atomically
from roselora.serving.lora_patterns import Patterns
from roselora.user_files import shown

_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.weight)?")
_ADAPTER, _CONFIG = "adapter_model.safetensors", "adapter_config.json"

# What makes an adapter more than A and B beside frozen weights, and the value that says it does not.
_PLAIN = {
    "use_dora": False,
    "use_qalora": False,
    "lora_bias": False,
    "bias": "none",
    "modules_to_save": None,
    "trainable_token_indices": None,
    "layer_replication": None,
    "target_parameters": None,
    "alora_invocation_tokens": None,
    "use_bdlora": None,
    "kasa_config": None,
    "monteclora_config": None,
    "arrow_config": None,
}
_BASE_KEPT = (True, False, None, "gaussian", "orthogonal", "eva")


def import_lora(folder: str | os.PathLike[str], model: nn.Module) -> SparseDelta:
    """The update that a plain LoRA adapter makes of `model`, its base, which gives layers, dtypes and hashes.

    Uniform rank and alpha or patterns of them, and rsLoRA, are read. Zeros in the factors are left out; an
    ordinary adapter has none, and then the delta is as large as the adapter and touches everything.

    Raises:
        FileFormatError: a file is missing, malformed or a pickle, or a pattern of the config takes too long.
        UnsupportedError: the adapter is not a plain LoRA (DoRA, trained biases, modules_to_save,
            initialisations that change the base, layers other than Linear, Conv1D and Embedding, tied weights).
        ConfigError: the adapter does not fit the model.
        NonFiniteError: the adapter holds NaN or infinity.
    """
    folder = Path(folder)
    config = _read_config(folder)
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, tensor in _read_tensors(folder / _ADAPTER).items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise UnsupportedError(f"{folder / _ADAPTER} holds {key}, which no plain LoRA adapter has.")
        if match["side"] in pairs.setdefault(match["module"], {}):
            raise FileFormatError(f"{folder / _ADAPTER} holds {match['side']} of {match['module']} twice.")
        if tensor.ndim != 2:
            raise UnsupportedError(f"{match['module']}'s factors are not matrices, so they are not read.")
        pairs[match["module"]][match["side"]] = tensor
    ranks, alphas = (Patterns(config.get(name) or {}) for name in ("rank_pattern", "alpha_pattern"))
    weights = []
    for module, pair in pairs.items():
        if set(pair) != {"A", "B"}:
            raise FileFormatError(f"{folder / _ADAPTER} holds only one of A and B for {module}.")
        rank, alpha = ranks.value_of(module, config.get("r")), alphas.value_of(module, config.get("lora_alpha"))
        scale = _scale(module, len(pair["A"]), rank, alpha, bool(config.get("use_rslora")))
        weights.append(_import_layer(model, module, pair["A"], pair["B"], scale))
    return SparseDelta(tuple(weights), {"method": "lora", "config": _json_only(config)})


def export_lora(
    delta: SparseDelta, folder: str | os.PathLike[str], *, base: str | None = None, task_type: str | None = None
) -> None:
    """Write `delta` as an adapter folder that stock PEFT and other programs load.

    All modules have one rank, the largest, filled up with zeros; alpha is that rank, and each module's scale is
    multiplied into its B in fp32. Some programs know one rank and one whole alpha only, divide by a tensor's own rank,
    or do not read patterns: this means the same to each.

    Args:
        delta: the update.
        folder: where to write; made if it is missing.
        base: the folder or hub id of the model that it is for, so that PEFT finds it.
        task_type: PEFT's name for what that model does, such as "CAUSAL_LM", by which PEFT knows how to load it.

    Raises:
        ConfigError: a weight's name does not end in ".weight", so no layer has it.
        NonFiniteError: a scaled B is not finite in fp32.
        OSError: the files cannot be written.
    """
    folder = Path(folder)
    rank = max(factors.rank for factors in delta.weights)
    tensors: dict[str, Tensor] = {}
    modules = []
    for factors in delta.weights:
        module = factors.name.removesuffix(".weight")
        if module == factors.name:
            raise ConfigError(f"{factors.name} is not a layer's weight, so it can't be part of a LoRA adapter.")
        modules.append(module)
        A, B = _padded(factors, rank)
        embedding, suffix = ("embedding_", "") if factors.layer == "embedding" else ("", ".weight")
        tensors[f"base_model.model.{module}.lora_{embedding}A{suffix}"] = A
        tensors[f"base_model.model.{module}.lora_{embedding}B{suffix}"] = B
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": task_type,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": {},
        "alpha_pattern": {},
        "target_modules": sorted(modules),
        "fan_in_fan_out": any(factors.layer == "conv1d" for factors in delta.weights),
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
    }
    folder.mkdir(parents=True, exist_ok=True)
    # The config comes last: a folder without one is not an adapter yet.
    write_atomically(folder / _ADAPTER, safetensors.torch.save(tensors, {"format": "pt"}))
    write_atomically(folder / _CONFIG, json.dumps(config, indent=2).encode() + b"\n")


def _padded(factors: SparseFactors, rank: int) -> tuple[Tensor, Tensor]:
    """A (rank, d_in) and B (d_out, rank) in fp32, the scale in B, rows and columns of zeros after the factors' own."""
    A, B = factors.to_factors()
    B = B.float() * factors.scale
    if not bool(B.isfinite().all()):
        raise NonFiniteError(f"{factors.name}: B times its scale {factors.scale} is not finite in float32.")
    missing = rank - factors.rank
    return pad(A.float(), (0, 0, 0, missing)), pad(B, (0, missing))


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / _CONFIG
    try:
        config = json.loads(path.read_bytes())
        kind = config["peft_type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileFormatError(f"{path} is not the config of a PEFT adapter: {error}.") from error
    if kind != "LORA":
        raise UnsupportedError(f"{path} is of type {shown(kind)}; only LORA adapters can be imported.")
    for name, plain in _PLAIN.items():
        # False, None and empty lists all say that a feature is off.
        if config.get(name) and config[name] != plain:
            raise UnsupportedError(f"{path} sets {name}={shown(config[name])}; only plain LoRA can be imported.")
    initial = config.get("init_lora_weights", True)
    if initial not in _BASE_KEPT:
        raise UnsupportedError(
            f"{path} has init_lora_weights={shown(initial)}, which changes the base; convert it to plain LoRA."
        )
    if not all(isinstance(config.get(name) or {}, dict) for name in ("rank_pattern", "alpha_pattern")):
        raise FileFormatError(f"{path} has a rank_pattern or alpha_pattern that is not a table.")
    return dict(config)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.exists() and path.with_suffix(".bin").exists():
        raise FileFormatError(f"{path.with_suffix('.bin')} may hold a pickle; save the adapter as safetensors.")
    try:
        return safetensors.torch.load(path.read_bytes())
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise FileFormatError(f"{path} is not a safetensors file that can be read: {error}.") from error


def _import_layer(model: nn.Module, module: str, A: Tensor, B: Tensor, scale: float) -> SparseFactors:
    try:
        layer = model.get_submodule(module)
    except AttributeError:
        raise ConfigError(f"The model has no layer {module}; the adapter was made for another one.") from None
    layer_kind(module, layer)  # names a layer of the wrong kind before its factors' shapes
    require_own_weight(model, module, layer)
    if not {A.dtype, B.dtype} <= set(FLOAT_DTYPES):
        names = " and ".join(sorted({dtype_name(A.dtype), dtype_name(B.dtype)}))
        raise UnsupportedError(f"{module}'s factors are {names}; save them as float32, bfloat16 or float16.")
    dtype = torch.promote_types(A.dtype, B.dtype)
    return layer_factors(module, layer, A.to(dtype), B.to(dtype), scale)


def _scale(module: str, rank: int, said_rank: Any, alpha: Any, use_rslora: bool) -> float:
    """alpha / r, or alpha / sqrt(r) for rsLoRA."""
    is_number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
    try:
        if said_rank == rank and is_number:
            return float(alpha) / (math.sqrt(rank) if use_rslora else rank)
    except (OverflowError, ZeroDivisionError):
        pass
    raise FileFormatError(f"{module} has rank {rank}, and the config says r={shown(said_rank)}, alpha={shown(alpha)}.")


def _json_only(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that say how the adapter was trained; those that are off are left out."""
    return {name: value for name, value in config.items() if value not in (None, False, {}, [])}
