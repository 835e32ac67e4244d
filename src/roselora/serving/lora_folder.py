"""Imports a plain LoRA adapter folder of PEFT as a SparseDelta, and exports a SparseDelta as one.

The tensors of a module X are base_model.model.X.lora_A.weight (r, d_in) and base_model.model.X.lora_B.weight (d_out,
r); of an embedding base_model.model.X.lora_embedding_A (r, vocabulary) and base_model.model.X.lora_embedding_B
(dimension, r).
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

from roselora.delta.layer_kinds import layer_factors, layer_kind, require_own_weight
from roselora.delta.sparse_delta import FLOAT_DTYPES, SparseDelta, SparseFactors
from roselora.errors import ConfigError, FileFormatError, UnsupportedError, reason_of
from roselora.files import dtype_name, write_atomically
from roselora.serving.lora_factors import largest_rank, of_one_rank
from roselora.serving.lora_patterns import Patterns
from roselora.user_files import shown

_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.weight)?")
LORA_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"

# Options that make an adapter more than A and B beside frozen weights. Left out, false, null or empty, each is off.
_NOT_PLAIN = (
    "use_dora",
    "use_qalora",
    "lora_bias",
    "modules_to_save",
    "trainable_token_indices",
    "layer_replication",
    "target_parameters",
    "alora_invocation_tokens",
    "use_bdlora",
    "kasa_config",
    "monteclora_config",
    "arrow_config",
)
# Initialisations that leave the base weights as they are.
_BASE_UNCHANGED = (True, False, None, "gaussian", "orthogonal", "eva")


def import_lora(folder: str | os.PathLike[str], model: nn.Module) -> SparseDelta:
    """Read a plain LoRA adapter folder as the delta that it makes of its base model.

    Rank and alpha may be uniform or given by patterns, and rsLoRA's scale is known. Zeros in the factors are left out.
    A dense adapter has none: its delta is as large as the adapter and changes every entry.

    Args:
        folder: the adapter's folder.
        model: its base model, from which the layers, dtypes and hashes are taken.

    Raises:
        FileFormatError: a file is missing, malformed or a pickle, or a pattern of the config takes too long.
        UnsupportedError: the adapter is not plain LoRA (DoRA, trained biases, modules_to_save, initialisations that
            change the base, layers other than Linear, Conv1D and Embedding, tied weights).
        ConfigError: the adapter does not fit the model.
        NonFiniteError: the adapter holds NaN or infinity.
    """
    folder = Path(folder)
    config = _read_config(folder)
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, tensor in _read_tensors(folder / LORA_WEIGHTS).items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise UnsupportedError(f"{folder / LORA_WEIGHTS} holds {key}, which is not part of a plain LoRA adapter.")
        if match["side"] in pairs.setdefault(match["module"], {}):
            raise FileFormatError(f"{folder / LORA_WEIGHTS} holds {match['side']} of {match['module']} twice.")
        if tensor.ndim != 2:
            raise UnsupportedError(f"{match['module']}'s factors are not matrices, so they cannot be read.")
        pairs[match["module"]][match["side"]] = tensor
    ranks, alphas = (Patterns(config.get(name) or {}) for name in ("rank_pattern", "alpha_pattern"))
    weights = []
    for module, pair in pairs.items():
        if set(pair) != {"A", "B"}:
            raise FileFormatError(f"{folder / LORA_WEIGHTS} holds only one of A and B for {module}.")
        rank, alpha = ranks.value_of(module, config.get("r")), alphas.value_of(module, config.get("lora_alpha"))
        scale = _scale(module, len(pair["A"]), rank, alpha, bool(config.get("use_rslora")))
        weights.append(_import_layer(model, module, pair["A"], pair["B"], scale))
    return SparseDelta(tuple(weights), {"method": "lora", "config": _options_in_use(config)})


def base_of(folder: str | os.PathLike[str]) -> str:
    """The name of the base model that an adapter folder names; empty if it names none.

    Raises:
        FileFormatError, UnsupportedError: as `import_lora`, about the config.
    """
    return str(_read_config(Path(folder)).get("base_model_name_or_path") or "")


def export_lora(
    delta: SparseDelta, folder: str | os.PathLike[str], *, base: str | None = None, task_type: str | None = None
) -> None:
    """Write `delta` as an adapter folder that PEFT and other programs load.

    All modules get the largest rank, padded with zeros. Alpha is that rank, and each module's scale is multiplied into
    its B in fp32. So the adapter means the same to every program: some know only one rank and a whole alpha, some
    divide by a tensor's own rank, and some ignore patterns.

    Args:
        delta: the update.
        folder: where to write; created if it is missing.
        base: the folder or hub id of the base model, from which PEFT can load it.
        task_type: PEFT's name for what the base model does, such as "CAUSAL_LM".

    Raises:
        ConfigError: a weight's name does not end in ".weight", so it is not a layer's.
        NonFiniteError: a scaled B is not finite in fp32.
        OSError: the files cannot be written.

    Example:
        >>> from roselora.delta.layer_kinds import layer_factors
        >>> model = nn.Sequential(nn.Linear(2, 3))
        >>> A, B = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0], [0.0], [3.0]])
        >>> delta = SparseDelta((layer_factors("0", model[0], A, B, scale=0.5),))
        >>> export_lora(delta, "adapter")
        >>> (factors,) = import_lora("adapter", model).weights
        >>> factors.name, factors.expand()
        ('0.weight', (tensor([1, 5]), tensor([1., 3.])))
    """
    folder = Path(folder)
    tensors: dict[str, Tensor] = {}
    modules = []
    rank = largest_rank(delta)
    for module, factors, A, B in of_one_rank(delta):
        modules.append(module)
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
    # The config is written last: without it the folder is not yet an adapter.
    write_atomically(folder / LORA_WEIGHTS, safetensors.torch.save(tensors, {"format": "pt"}))
    write_atomically(folder / _CONFIG, json.dumps(config, indent=2).encode() + b"\n")


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / _CONFIG
    try:
        config = json.loads(path.read_bytes())
        kind = config["peft_type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = "it names no peft_type" if isinstance(error, KeyError) else reason_of(error)
        raise FileFormatError(f"{path} is not the config of a PEFT adapter: {why}.") from error
    if kind != "LORA":
        raise UnsupportedError(f"{path} is of type {shown(kind)}; only LORA adapters can be imported.")
    for name in ("bias", *_NOT_PLAIN):
        if config.get(name) and (name, config[name]) != ("bias", "none"):
            raise UnsupportedError(f"{path} sets {name}={shown(config[name])}; only plain LoRA can be imported.")
    initial = config.get("init_lora_weights", True)
    if initial not in _BASE_UNCHANGED:
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
        raise FileFormatError(f"{path} is not a safetensors file that can be read: {reason_of(error)}.") from error


def _import_layer(model: nn.Module, module: str, A: Tensor, B: Tensor, scale: float) -> SparseFactors:
    try:
        layer = model.get_submodule(module)
    except AttributeError:
        raise ConfigError(f"The model has no layer {module}; the adapter was made for another model.") from None
    layer_kind(module, layer)  # a layer of the wrong kind is refused as that, not for its factors' shapes
    require_own_weight(model, module, layer)
    if not {A.dtype, B.dtype} <= set(FLOAT_DTYPES):
        names = " and ".join(sorted({dtype_name(A.dtype), dtype_name(B.dtype)}))
        raise UnsupportedError(f"{module}'s factors are {names}; save them as float32, bfloat16 or float16.")
    dtype = torch.promote_types(A.dtype, B.dtype)
    return layer_factors(module, layer, A.to(dtype), B.to(dtype), scale)


def _scale(module: str, rank: int, config_rank: Any, alpha: Any, use_rslora: bool) -> float:
    """alpha / r, or alpha / sqrt(r) for rsLoRA."""
    is_number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
    try:
        if config_rank == rank and is_number:
            return float(alpha) / (math.sqrt(rank) if use_rslora else rank)
    except (OverflowError, ZeroDivisionError):
        pass
    raise FileFormatError(
        f"{module} has rank {rank}, but the config says r={shown(config_rank)}, alpha={shown(alpha)}."
    )


def _options_in_use(config: dict[str, Any]) -> dict[str, Any]:
    """The options that are not off."""
    return {name: value for name, value in config.items() if value not in (None, False, {}, [])}
