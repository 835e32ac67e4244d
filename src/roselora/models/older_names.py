"""Adds to a model's folder what programs look for that know nothing of transformers 5: MLX, Ollama, transformers 4."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

UNLIMITED = 10**12
"""From this length on, a tokenizer's ``model_max_length`` means that none is known."""


def add_older_names(folder: Path) -> None:
    """Give a folder that transformers 5 has written the older names of what is in its two configs.

    Version 5 keeps a model's rotary settings within ``rope_parameters``; others read ``rope_theta``, ``rope_scaling``
    and, of models with sliding windows, ``rope_local_base_freq``, and where these are missing take defaults, with
    which the model says something else. Version 4 does not know the class ``TokenizersBackend``.
    """
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("_model_name_or_path", None)  # a GGUF file's title, which is no path
    config.setdefault("torch_dtype", config.get("dtype"))
    _write(path, _older_rope(config.get("rope_parameters") or {}, config.get("model_type")) | config)
    path = folder / "tokenizer_config.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    for name in ("backend", "is_local", "local_files_only"):
        tokenizer.pop(name, None)
    if tokenizer.get("tokenizer_class") == "TokenizersBackend":
        # Of which version 4 expects token types, that no causal model takes, and untidy spaces to be removed.
        tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
        tokenizer.setdefault("model_input_names", ["input_ids", "attention_mask"])
        tokenizer.setdefault("clean_up_tokenization_spaces", False)
    if isinstance(tokenizer.get("extra_special_tokens"), list):  # version 4 wants a table by this name
        tokenizer["additional_special_tokens"] = tokenizer.pop("extra_special_tokens")
    if tokenizer.get("model_max_length", 0) > UNLIMITED and "max_position_embeddings" in config:
        tokenizer["model_max_length"] = config["max_position_embeddings"]
    _write(path, tokenizer)


def _older_rope(parameters: Mapping[str, Any], kind: str | None) -> dict[str, Any]:
    """Version 4's names of rotary settings, which are either one table or one for each type of layer.

    Args:
        kind: the type of model, because a few have names of their own.
    """
    whole = dict(parameters.get("full_attention", parameters))
    local = parameters.get("sliding_attention", {})
    names = {"rope_theta": "rope_theta", "partial_rotary_factor": "partial_rotary_factor"}
    if kind == "gpt_neox":
        names = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
    found = {older: whole.pop(name) for name, older in names.items() if name in whole}
    if "rope_theta" in local:
        found["rope_local_base_freq"] = local["rope_theta"]
    if whole.get("rope_type", "default") != "default":
        if kind in ("phi3", "phimoe") and "short_factor" in whole:  # whose version 4 refuses any other entry
            whole = {"type": whole["rope_type"], **{name: whole[name] for name in ("short_factor", "long_factor")}}
        found["rope_scaling"] = whole
    return found


def _write(path: Path, config: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
