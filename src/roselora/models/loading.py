"""Load a model and its tokenizer: the demo model, a folder, a GGUF file or a hub id.

Only safetensors and GGUF are read, never a pickle; a repository's own code is never run; the hub is asked
only for a hub id that is not cached.
"""

import contextlib
import io
import json
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub.utils.logging as hub_logging
import torch
import transformers.utils.logging as transformers_logging
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.utils.tqdm import enable_progress_bars
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import GENERATION_CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME
from transformers.utils.hub import cached_file

from roselora.errors import ModelError, RoseLoraError, reason_of
from roselora.files import PICKLE_SUFFIXES, user_path
from roselora.models.devices import AUTO, device_for, dtype_for, require_dtype
from roselora.models.encoder_models import ENCODERS
from roselora.models.generation_config import keep_as_read
from roselora.models.pypi_models import folder_of
from roselora.models.task_heads import CAUSAL, Head
from roselora.models.tokenization import embedding_rows

DEMO = "demo"
ADAPTER = "adapter_config.json"
GGUF_MAGIC = b"GGUF"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode, its left-padding tokenizer, and the name it was asked for by."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str


def load(
    source: str | os.PathLike[str],
    *,
    dtype: str | torch.dtype = AUTO,
    device: str | torch.device = "cpu",
    head: Head = CAUSAL,
    fetch: bool = True,
    quantized: bool = False,
) -> LoadedModel:
    """Load a model, a causal language model unless ``head`` says otherwise, with its tokenizer.

    `source` is `demo`, or for a classifier `mpnet` or `minilm` (each fetched on first use), a folder written by
    `save_pretrained`, a `.gguf` file, or a hub id; a `Path` is never taken for a hub id, and `./demo` is a folder.
    `dtype` and `device` may be torch's or their names; `auto` is the checkpoint's own dtype, and the accelerator if
    there is one. The model is in eval mode with `requires_grad` as the library sets it; the tokenizer pads on the left
    and has a pad token. With `fetch` false a hub id is read from the cache, and the hub is not asked for it.
    With `quantized` true the weights may be quantized: an adapter can be trained on them, and no edit be made in them.

    Raises:
        ConfigError: the device is not there, or cannot compute in the dtype.
        ModelError: nothing is there, the hub cannot be reached, the weights are pickles, broken or incomplete,
            the model is not of the kind that ``head`` needs, it is quantized, or it has no tokenizer.
    """
    name = os.fspath(source)
    place = device_for(device)
    wanted = dtype_for(dtype, place)
    with quiet_libraries(), refusing(f"{name} could not be loaded", "see that it is whole and readable"):
        model, tokenizer = _find_and_read(source, wanted or AUTO, head, fetch, quantized)
    require_dtype(model.dtype, place)
    with refusing(f"{name} could not be moved to the device {place}", "free memory there, or name another device"):
        model.to(place)  # type: ignore[arg-type]
    if tokenizer.eos_token is None and head is CAUSAL:
        raise ModelError(f"the tokenizer of {name} has no end-of-sequence token: set eos_token in its config.")
    if tokenizer.pad_token is None or (tokenizer.eos_token and tokenizer.pad_token_id >= embedding_rows(model)):
        tokenizer.pad_token = tokenizer.eos_token  # one that was added behind the model's vocabulary would be no row
    tokenizer.padding_side = "left"
    model.train(False)
    return LoadedModel(model, tokenizer, _lasting_name(source))


Pair = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def _lasting_name(source: str | os.PathLike[str]) -> str:
    """What the model is called from every folder: a path is absolute, any other name stays as it is."""
    known = source == DEMO or source in ENCODERS
    path = user_path(source)
    return os.fspath(source) if known or not path.exists() else str(path.absolute())


def _find_and_read(
    source: str | os.PathLike[str], dtype: torch.dtype | str, head: Head, fetch: bool, quantized: bool
) -> Pair:
    """What `source` means, read from where it lies."""
    name = os.fspath(source)
    path = user_path(source)
    if not name:
        raise ModelError("the model's name is empty: name `demo`, a folder, a .gguf file or owner/model.")
    if source == DEMO:
        from roselora.models.demo_model import demo_model_folder  # which itself loads a GGUF file with this module

        return _read(name, str(demo_model_folder()), dtype, head, quantized, local_files_only=True)
    if source in ENCODERS:
        return _read(name, str(folder_of(ENCODERS[name])), dtype, head, quantized, local_files_only=True)
    if path.is_dir():
        _check_folder(name, path)
        # Absolute, for adapters name it as their base.
        return _read(name, str(path.absolute()), dtype, head, quantized, local_files_only=True)
    if _is_gguf(path):
        return _read_gguf(name, path, dtype, head)
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise ModelError(f"only safetensors are read, and {name} is a pickle: save the model as safetensors.")
    if path.is_file():
        raise ModelError(f"{name} is a file, but not a GGUF file: name the folder that holds the model.")
    if os.path.lexists(path):
        raise ModelError(f"{name} leads to no file or folder: see where the link points to, or name the model itself.")
    if isinstance(source, str) and HUB_ID.fullmatch(source) and path.suffix.lower() not in {".gguf", ".safetensors"}:
        return _read_hub(source, dtype, head, fetch, quantized)
    raise ModelError(
        f"there is no file or folder {name}, nor is that a hub id: name `demo`, a folder, a .gguf file or owner/model."
    )


def _check_folder(name: str, folder: Path) -> None:
    """Refuse, with its reason, a folder that cannot be a safetensors model."""
    files = {file.name for file in folder.iterdir()}
    if ADAPTER in files:
        return  # _check_parts says so
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


def _read_gguf(name: str, path: Path, dtype: torch.dtype | str, head: Head) -> Pair:
    """A GGUF file, unpacked into plain weights that `save_pretrained` accepts."""
    # transformers draws a bar on standard error that has no switch.
    with _named_gguf(path) as file, contextlib.redirect_stderr(io.StringIO()):
        options = {"gguf_file": str(file), "quantization_config": GgufConfig(dequantize=True)}
        model, tokenizer = _read(name, str(file.parent), dtype, head, False, local_files_only=True, **options)
    drop_quantizer(model)
    _name_base(model, tokenizer, str(path.absolute()))
    return model, tokenizer


def _is_gguf(path: Path) -> bool:
    """Whether this is a GGUF file, by its first bytes, for files of a cache have no ending."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(GGUF_MAGIC)) == GGUF_MAGIC


@contextlib.contextmanager
def _named_gguf(path: Path) -> Iterator[Path]:
    """The file under an absolute name that ends in .gguf.

    transformers takes a file for a pickle that has another ending, and for a relative name looks in the working folder.
    """
    if path.suffix == ".gguf":
        yield path.absolute()
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, "model.gguf")
        link.symlink_to(path.absolute())
        yield link


def _name_base(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Let what is saved later name this as its base, not the folder of a cache."""
    model.name_or_path = model.config._name_or_path = tokenizer.name_or_path = name


def drop_quantizer(model: PreTrainedModel) -> None:
    """Make a model that came from unpacked GGUF weights an ordinary one, so that it can be saved."""
    model.config.__dict__.pop("quantization_config", None)
    for attribute in ("hf_quantizer", "quantization_method", "is_quantized"):
        model.__dict__.pop(attribute, None)


def is_cached(hub_id: str) -> bool:
    """Whether there is something of a hub model in the cache; `load` says whether it is whole."""
    return isinstance(try_to_load_from_cache(hub_id, "config.json"), str)


def _read_hub(hub_id: str, dtype: torch.dtype | str, head: Head, fetch: bool, quantized: bool) -> Pair:
    """A hub model: from the cache when it is whole there, else from the hub, if that may be asked."""
    # transformers is shown the folder, for with a hub id it goes online even when told to use local files only
    # (huggingface_hub refreshes a registry for its user agent).
    config = try_to_load_from_cache(hub_id, "config.json")
    if isinstance(config, str):
        try:
            model, tokenizer = _read(hub_id, str(Path(config).parent), dtype, head, quantized, local_files_only=True)
        except ModelError as error:
            if error.__cause__ is None:  # it is whole, and no model for us
                raise
        else:
            _name_base(model, tokenizer, hub_id)
            return model, tokenizer
    if not fetch:
        raise ModelError(
            f"{hub_id} is not whole in the cache, and was not fetched: name it yourself to have it fetched."
        )
    with _no_conversion_request():
        return _read(hub_id, hub_id, dtype, head, quantized, local_files_only=False)


def _read(
    name: str,
    location: str,
    dtype: torch.dtype | str,
    head: Head,
    quantized: bool,
    *,
    local_files_only: bool,
    **gguf: Any,
) -> Pair:
    """Config, tokenizer and weights at `location`; every failure a ModelError about `name`."""
    where: dict[str, Any] = {"local_files_only": local_files_only, "trust_remote_code": False}
    if "gguf_file" in gguf:
        where["gguf_file"] = gguf["gguf_file"]
    if local_files_only:
        advice = "see that the model is whole, or fetch or save it again"
    else:
        advice = "it is no path here and not whole in the cache, so check its spelling and the network"
    with refusing(f"the config of {name} could not be read", advice):
        _check_parts(name, location, local_files_only)
        config = AutoConfig.from_pretrained(location, **where)
    head.check(name, config)
    if not (gguf or quantized) and (method := _quantization(config.to_dict())):
        raise ModelError(
            f"{name} is quantized ({method}), and plain weights are needed here: name the model in bf16, fp16 or fp32."
        )
    with refusing(f"there is no usable tokenizer with {name}", "tokenizer.json belongs beside the weights"):
        tokenizer = AutoTokenizer.from_pretrained(location, **where)
    with refusing(f"the weights of {name} could not be read as safetensors or GGUF", advice):
        loaded: Any = head.auto_class.from_pretrained(
            location, dtype=dtype, use_safetensors=True, output_loading_info=True, **where | gguf | head.options
        )
    model, report = loaded
    if missing := head.missing(report, model):
        raise ModelError(f"{name} lacks {len(missing)} of its weights, {missing[0]} first: fetch it again.")
    if model.can_generate():
        keep_as_read(
            model.generation_config, None if gguf else _part(location, GENERATION_CONFIG_NAME, local_files_only)
        )
    return model, tokenizer


def _quantization(values: Mapping[str, Any]) -> str | None:
    """By which method a config, or a config within it, says that the weights are quantized."""
    for name in ("quantization_config", "compression_config"):
        if isinstance(found := values.get(name), Mapping) and found:
            return str(found.get("quant_method", "by an unnamed method"))
    within = (_quantization(value) for value in values.values() if isinstance(value, Mapping))
    return next(filter(None, within), None)


def _part(location: str, file: str, local_files_only: bool) -> Path | None:
    """One of the files at `location`, a folder or a hub id, if it is there."""
    found = cached_file(location, file, local_files_only=local_files_only, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)


def _check_parts(name: str, location: str, local_files_only: bool) -> None:
    """Refuse what would lead transformers elsewhere: an adapter to its base, an index to a pickle."""
    if _part(location, ADAPTER, local_files_only) is not None:
        raise ModelError(f"{name} is an adapter, not a model: load the base model that it adapts.")
    if (index := _part(location, SAFE_WEIGHTS_INDEX_NAME, local_files_only)) is not None:
        shards = json.loads(index.read_bytes())["weight_map"].values()
        if any(Path(shard).suffix != ".safetensors" for shard in shards):
            raise ModelError(f"only safetensors are read, and {SAFE_WEIGHTS_INDEX_NAME} of {name} names other files.")


@contextlib.contextmanager
def refusing(what: str, advice: str) -> Iterator[None]:
    """Turn any failure of a library inside into one ModelError: what happened, its own first line, the way out."""
    try:
        yield
    except RoseLoraError:
        raise
    except (Exception, SafetensorError) as error:
        raise ModelError(f"{what} ({reason_of(error)}): {advice}.") from error


@contextlib.contextmanager
def _no_conversion_request() -> Iterator[None]:
    """Keep transformers from asking the hub's bot to convert a repository that holds only pickles."""
    variable = "DISABLE_SAFETENSORS_CONVERSION"
    before = os.environ.get(variable)
    os.environ[variable] = "1"
    try:
        yield
    finally:
        os.environ.pop(variable)
        if before is not None:
            os.environ[variable] = before


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence the warnings and bars of transformers and the hub client, whose failures we put into words."""
    verbosities = transformers_logging.get_verbosity(), hub_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    hub_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if bars:  # that switched off the hub's download bars too, which users want to see
        enable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosities[0])
        hub_logging.set_verbosity(verbosities[1])
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
