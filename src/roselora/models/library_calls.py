"""Calls of transformers and the hub client: without their output, and with every failure as a ModelError."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

import huggingface_hub.utils.logging as hub_logging
import transformers.utils.logging as transformers_logging
from huggingface_hub.utils.tqdm import enable_progress_bars
from safetensors import SafetensorError

from roselora.errors import ModelError, RoseLoraError, reason_of


@contextlib.contextmanager
def as_model_error(what: str, advice: str) -> Iterator[None]:
    """Turn any error inside into a ModelError that says what happened, the first line of the error, and what to do."""
    try:
        yield
    except RoseLoraError:
        raise
    except (Exception, SafetensorError) as error:
        raise ModelError(f"{what} ({reason_of(error)}): {advice}.") from error


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Inside, transformers and the hub client show no warnings and no progress bars but those of downloads."""
    verbosities = transformers_logging.get_verbosity(), hub_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    hub_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if bars:  # the call above switched off the download bars too, which users want to see
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
