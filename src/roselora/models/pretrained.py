"""Read a pretrained model and its tokenizer from a folder, a GGUF file or the hub.

Only safetensors and GGUF files are read, never a pickle, and a repository's own code is never run.
"""

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import AutoConfig, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import GENERATION_CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME
from transformers.utils.hub import cached_file

from roselora.errors import ModelError
from roselora.files import PICKLE_SUFFIXES
from roselora.models.devices import AUTO
from roselora.models.generation_config import keep_as_read
from roselora.models.library_calls import as_model_error
from roselora.models.task_heads import CAUSAL_LM, TaskHead
from roselora.models.tokenization import embedding_rows

ADAPTER = "adapter_config.json"
GGUF_MAGIC = b"GGUF"

Pretrained = tuple[PreTrainedModel, PreTrainedTokenizerBase]
"""A model in eval mode, and its tokenizer, which pads on the left and has a pad token."""


@dataclass(frozen=True)
class ReadOptions:
    """How a model is read.

    Attributes:
        dtype: of the weights; ``auto`` is the checkpoint's own.
        head: what the model ends in.
        quantized: whether the weights may be quantized.
    """

    dtype: torch.dtype | str = AUTO
    head: TaskHead = CAUSAL_LM
    quantized: bool = False


def read_folder(name: str, folder: Path, options: ReadOptions) -> Pretrained:
    """Read a folder that ``save_pretrained`` wrote; ``name`` is what errors call it."""
    _check_folder(name, folder)
    # Absolute, because an adapter records this path as that of its base model.
    return _read(name, str(folder.absolute()), options, local_files_only=True)


def read_gguf(name: str, path: Path, options: ReadOptions) -> Pretrained:
    """Read a GGUF file, dequantized into plain weights that ``save_pretrained`` accepts."""
    # transformers draws a progress bar on standard error that cannot be switched off.
    with _named_gguf(path) as file, contextlib.redirect_stderr(io.StringIO()):
        gguf = {"gguf_file": str(file), "quantization_config": GgufConfig(dequantize=True)}
        model, tokenizer = _read(name, str(file.parent), options, local_files_only=True, **gguf)
    model.config.__dict__.pop("quantization_config", None)
    for attribute in ("hf_quantizer", "quantization_method", "is_quantized"):
        model.__dict__.pop(attribute, None)
    _name_base(model, tokenizer, str(path.absolute()))
    return model, tokenizer


def read_hub(hub_id: str, options: ReadOptions, *, fetch: bool) -> Pretrained:
    """Read a hub model from the cache if it is complete there, else, with ``fetch``, from the hub."""
    # transformers gets the folder of the cache: given a hub id, it goes online even when told to use local files only
    # (huggingface_hub refreshes a registry for its user agent).
    config = try_to_load_from_cache(hub_id, "config.json")
    if isinstance(config, str):
        try:
            model, tokenizer = _read(hub_id, str(Path(config).parent), options, local_files_only=True)
        except ModelError as error:
            if error.__cause__ is None:  # the model is complete, but not one that we can use
                raise
        else:
            _name_base(model, tokenizer, hub_id)
            return model, tokenizer
    if not fetch:
        raise ModelError(
            f"{hub_id} is not complete in the cache, and was not downloaded: name it yourself to have it downloaded."
        )
    with _no_conversion_request():
        return _read(hub_id, hub_id, options, local_files_only=False)


def is_cached(hub_id: str) -> bool:
    """Whether a part of a hub model is in the cache; only reading it shows whether it is complete."""
    return isinstance(try_to_load_from_cache(hub_id, "config.json"), str)


def is_gguf(path: Path) -> bool:
    """Whether this is a GGUF file, by its first bytes, because files in a cache have no suffix."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(GGUF_MAGIC)) == GGUF_MAGIC


def _check_folder(name: str, folder: Path) -> None:
    """Refuse a folder that cannot be a safetensors model, and say why."""
    files = {file.name for file in folder.iterdir()}
    if ADAPTER in files:
        return  # which _check_parts refuses
    weights = {Path(file).suffix for file in files}
    if ".safetensors" not in weights:
        others = {suffix.lower() for suffix in weights}
        if others & PICKLE_SUFFIXES:
            raise ModelError(
                f"only safetensors are read, and {name} holds only pickles: save the model as safetensors."
            )
        if ".gguf" in others:
            raise ModelError(f"{name} is a folder with a GGUF file: name the .gguf file itself.")
    if "config.json" not in files:
        raise ModelError(f"there is no config.json in the folder {name}: name the folder of a whole model.")
    if ".safetensors" not in weights:
        raise ModelError(f"there are no weights in the folder {name}: put model.safetensors there.")


@contextlib.contextmanager
def _named_gguf(path: Path) -> Iterator[Path]:
    """The file under an absolute path that ends in .gguf.

    transformers reads a file with another suffix as a pickle, and looks up a relative path in the working folder.
    """
    if path.suffix == ".gguf":
        yield path.absolute()
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, "model.gguf")
        link.symlink_to(path.absolute())
        yield link


def _name_base(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Let what is saved later name this as its base model, not the folder of a cache."""
    model.name_or_path = model.config._name_or_path = tokenizer.name_or_path = name


def _read(name: str, location: str, options: ReadOptions, *, local_files_only: bool, **gguf: Any) -> Pretrained:
    """Config, tokenizer and weights at ``location``; every failure is a ModelError about ``name``."""
    head = options.head
    where: dict[str, Any] = {"local_files_only": local_files_only, "trust_remote_code": False}
    if "gguf_file" in gguf:
        where["gguf_file"] = gguf["gguf_file"]
    if local_files_only:
        advice = "check that the model is complete, or download or save it again"
    else:
        advice = "it is not a path here and not complete in the cache, so check its spelling and the network"
    with as_model_error(f"the config of {name} could not be read", advice):
        _check_parts(name, location, local_files_only)
        config = AutoConfig.from_pretrained(location, **where)
    head.check(name, config)
    if not (gguf or options.quantized) and (method := _quantization(config.to_dict())):
        raise ModelError(
            f"{name} is quantized ({method}), but plain weights are needed here: name the model in bf16, fp16 or fp32."
        )
    with as_model_error(f"there is no usable tokenizer with {name}", "tokenizer.json belongs beside the weights"):
        tokenizer = AutoTokenizer.from_pretrained(location, **where)
    with as_model_error(f"the weights of {name} could not be read as safetensors or GGUF", advice):
        loaded: Any = head.auto_class.from_pretrained(
            location, dtype=options.dtype, use_safetensors=True, output_loading_info=True, **where | gguf | head.options
        )
    model, report = loaded
    if missing := head.missing(report, model):
        raise ModelError(
            f"{name} lacks {len(missing)} of its weights, the first of them {missing[0]}: download it again."
        )
    if model.can_generate():
        keep_as_read(
            model.generation_config, None if gguf else _part(location, GENERATION_CONFIG_NAME, local_files_only)
        )
    if tokenizer.eos_token is None and head is CAUSAL_LM:
        raise ModelError(f"the tokenizer of {name} has no end-of-sequence token: set eos_token in its config.")
    if tokenizer.pad_token is None or (tokenizer.eos_token and tokenizer.pad_token_id >= embedding_rows(model)):
        tokenizer.pad_token = tokenizer.eos_token  # a pad token added to the tokenizer alone has no embedding
    tokenizer.padding_side = "left"
    model.train(False)
    return model, tokenizer


def _quantization(values: Mapping[str, Any]) -> str | None:
    """The quantization method that a config, or a config within it, names; None if the weights are not quantized."""
    for name in ("quantization_config", "compression_config"):
        if isinstance(found := values.get(name), Mapping) and found:
            return str(found.get("quant_method", "by an unnamed method"))
    within = (_quantization(value) for value in values.values() if isinstance(value, Mapping))
    return next(filter(None, within), None)


def _part(location: str, file: str, local_files_only: bool) -> Path | None:
    """One of the files at ``location``, a folder or a hub id, if it exists."""
    found = cached_file(location, file, local_files_only=local_files_only, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)


def _check_parts(name: str, location: str, local_files_only: bool) -> None:
    """Refuse what makes transformers read other files: an adapter, whose base it reads, or an index of pickles."""
    if _part(location, ADAPTER, local_files_only) is not None:
        raise ModelError(f"{name} is an adapter, not a model: load the base model that it adapts.")
    if (index := _part(location, SAFE_WEIGHTS_INDEX_NAME, local_files_only)) is not None:
        shards = json.loads(index.read_bytes())["weight_map"].values()
        if any(Path(shard).suffix != ".safetensors" for shard in shards):
            raise ModelError(f"only safetensors are read, and {SAFE_WEIGHTS_INDEX_NAME} of {name} names other files.")


@contextlib.contextmanager
def _no_conversion_request() -> Iterator[None]:
    """Keep transformers from asking the hub's bot to convert a repository of pickles."""
    variable = "DISABLE_SAFETENSORS_CONVERSION"
    before = os.environ.get(variable)
    os.environ[variable] = "1"
    try:
        yield
    finally:
        os.environ.pop(variable)
        if before is not None:
            os.environ[variable] = before
