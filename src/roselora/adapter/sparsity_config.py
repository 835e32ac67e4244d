"""A LoraConfig with the hyperparameters of the sparsity: their checks, the schedule that they describe, and their file.

The config keeps ``peft_type=LORA`` and saves a plain ``adapter_config.json``, so every program that reads LoRA adapters
reads ours. Our own fields go to ``roselora_config.json`` beside it.
"""

import json
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from pathlib import Path
from typing import Any, Self

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from peft import LoraConfig

from roselora.errors import ConfigError, RoseLoraError, UnsupportedError, reason_of, shortened
from roselora.files import user_path
from roselora.user_files import json_value, read_text, shown

SIDECAR = "roselora_config.json"

# Initialisations that leave the base as it is and B at zero, so that the update is zero before training.
_INITIALISATIONS = (True, False, "gaussian", "eva")

_UNSUPPORTED_OPTIONS = {
    "use_dora": "DoRA's magnitude vector makes the update dense",
    "kasa_config": "KaSA's singular values change the base weights",
    "monteclora_config": "MonteCLoRA samples factors that no pruning sees",
    "lora_bias": "a trained bias is dense",
    "use_qalora": "QALoRA's A acts on pooled inputs, so its rows are not rows of the update",
    "use_bdlora": "block-diagonal factors are not stored as rows and columns",
    "arrow_config": "Arrow routes between finished adapters and trains none",
    "ensure_weight_tying": "tied adapters share one factor under two names",
}


@dataclass
class SparsityConfig(LoraConfig):
    """The fields, checks and files of :class:`~roselora.adapter.config.RoseLoraConfig`, which documents them.

    What the hooks use is here, so that they can import it; RoseLoraConfig imports the hooks and installs them.
    """

    density: float = field(default=0.05, metadata={"help": "Fraction of each row of A and column of B kept."})
    importance_beta: float = field(default=0.8, metadata={"help": "Weight of the old importance (Eq. 4)."})
    warmup: int | float = field(default=0.1, metadata={"help": "Dense steps: an int, or a fraction."})
    ramp: int | float = field(default=0.7, metadata={"help": "Steps of falling density: an int, or a fraction."})
    total_steps: int | None = field(default=None, metadata={"help": "Optimizer steps; a Trainer sets it."})
    clamp: float | None = field(default=None, metadata={"help": "Bound on |A| and |B| after each step."})

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.check()

    def check(self) -> None:
        """Raise ConfigError or UnsupportedError, in one sentence, if this config cannot be trained."""
        _require("r", self.r, _is_whole(self.r, 1), "a whole number >= 1")
        _require("density", self.density, _is_number(self.density) and 0 < self.density <= 1, "in (0, 1]")
        alpha = self.lora_alpha
        _require("lora_alpha", alpha, _is_number(alpha) and alpha != 0, "a finite number other than 0")
        beta = self.importance_beta
        _require("importance_beta", beta, _is_number(beta) and 0 <= beta < 1, "in [0, 1)")
        for name in ("warmup", "ramp"):
            value = getattr(self, name)
            valid = _is_whole(value, 0) or (_is_number(value) and 0 <= value <= 1)
            _require(name, value, valid, "a number of steps >= 0, or a fraction in [0, 1]")
        if isinstance(self.warmup, float) and isinstance(self.ramp, float):
            total = self.warmup + self.ramp
            _require("warmup + ramp", total, total <= 1 + 1e-9, "at most 1, the whole of training")
        if self.total_steps is not None:
            _require("total_steps", self.total_steps, _is_whole(self.total_steps, 1), "a whole number >= 1, or None")
            self.ramp_bounds(self.total_steps)
        if self.clamp is not None:
            valid = _is_number(self.clamp) and 0 < self.clamp <= 1e30  # torch clamps to no more than fp32 holds
            _require("clamp", self.clamp, valid, "in (0, 1e30], or None")
        self._refuse_unsupported()

    def warn_of_no_dense_step(self) -> None:
        """Warn if training prunes at the first step: B is zero there, so all its scores tie and the index decides."""
        if self.warmup == 0 and self.density < 1 and not self.inference_mode:
            warnings.warn(
                "warmup=0 prunes at the first step, where B is zero and all its scores tie: the first entries of each "
                "column stay, whatever their worth; give at least one dense step.",
                stacklevel=2,
            )

    def warn_of_whole_modules(self) -> None:
        """Warn of modules and tokens that are trained dense; PEFT and TRL may add them after the config was made."""
        for option in ("modules_to_save", "trainable_token_indices"):
            value = getattr(self, option)
            if value and not self.inference_mode:
                names = ", ".join(dict.fromkeys(map(str, value)))
                warnings.warn(
                    f"{option} are trained whole: {names} are not part of the sparse update.",
                    stacklevel=2,
                )

    def _refuse_unsupported(self) -> None:
        for option, reason in _UNSUPPORTED_OPTIONS.items():
            if getattr(self, option, None):
                raise UnsupportedError(f"RoseLoRA does not support {option}: {reason}; leave it out.")
        if self.bias != "none":
            raise UnsupportedError(
                f"RoseLoRA does not support bias={shown(self.bias)}: trained biases are dense; leave it at 'none'."
            )
        if self.init_lora_weights not in _INITIALISATIONS:
            raise UnsupportedError(
                f"RoseLoRA does not support init_lora_weights={shown(self.init_lora_weights)}: B must start at zero "
                "and the base must stay as it is; use True, 'gaussian' or 'eva'."
            )

    def ramp_bounds(self, total_steps: int) -> tuple[int, int]:
        """The last dense step and the first step at the target density: t_i and t_f of the cubic schedule.

        Raises:
            ConfigError: the ramp would end after ``total_steps``, so the adapter would never reach its density.
        """
        # A fraction above 0 is at least one dense step, however short the run: see warn_of_no_dense_step.
        at_least = 1 if self.warmup else 0
        warmup = self.warmup if isinstance(self.warmup, int) else max(at_least, round(self.warmup * total_steps))
        if isinstance(self.ramp, int):
            end = warmup + self.ramp
        elif isinstance(self.warmup, int):
            end = warmup + round(self.ramp * total_steps)
        else:
            end = max(warmup, round((self.warmup + self.ramp) * total_steps))
        if warmup >= total_steps and self.density < 1:
            raise ConfigError(
                f"warmup ({self.warmup}) keeps all {total_steps} steps of training dense, so none is left to prune at; "
                "make it shorter or train longer."
            )
        if end > total_steps:
            raise ConfigError(
                f"warmup ({self.warmup}) and ramp ({self.ramp}) end at step {end}, but training has only "
                f"{total_steps}, so the adapter would never reach its density; make them shorter or train longer."
            )
        return warmup, end

    def to_dict(self) -> dict[str, Any]:
        """The fields of this config that a plain LoraConfig has."""
        everything: dict[str, Any] = super().to_dict()  # type: ignore[no-untyped-call]
        return {name: value for name, value in everything.items() if name not in _own_names()}

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Write ``adapter_config.json``, a plain LoRA config, and our own fields to ``roselora_config.json``."""
        super().save_pretrained(os.fspath(save_directory), **kwargs)
        own = {name: getattr(self, name) for name in _own_names()}
        Path(save_directory, SIDECAR).write_text(json.dumps(own, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        subfolder: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Read a saved config, ``adapter_config.json`` and ``roselora_config.json``, from a folder or hub repository.

        Raises:
            ConfigError: one of the two files is missing or malformed, or a value in it cannot work.
            UnsupportedError: an option of the LoRA config under which the update would not be sparse.
        """
        source = os.fspath(pretrained_model_name_or_path)
        if (folder := user_path(source)).is_dir():
            source = str(folder)
        own = _read_sidecar(source, subfolder, kwargs)
        try:
            plain = LoraConfig.from_pretrained(source, subfolder, **kwargs)
            if not isinstance(plain, LoraConfig):
                raise TypeError(f"it is of type {type(plain).__name__}")
            values = {f.name: getattr(plain, f.name) for f in fields(plain) if f.init and f.name != "runtime_config"}
            return cls(**values, **own)
        except RoseLoraError:
            raise
        except Exception as error:  # PEFT does not check the file's values, and fails wherever one is used
            raise ConfigError(f"{source} holds no LoRA config that can be used ({shortened(str(error))}).") from error


def _own_names() -> list[str]:
    """The fields that LoraConfig does not have."""
    inherited = {f.name for f in fields(LoraConfig)}
    return [f.name for f in fields(SparsityConfig) if f.name not in inherited]


def _read_sidecar(source: str, subfolder: str | None, hub_options: Mapping[str, Any]) -> dict[str, Any]:
    """Our own fields, from the file beside the LoRA config."""
    path = Path(source, subfolder or "", SIDECAR)
    if not path.parent.is_dir():
        try:
            path = Path(hf_hub_download(source, SIDECAR, subfolder=subfolder, **hub_options))
        except (OSError, ValueError, EntryNotFoundError) as error:
            repository_found = isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)
            if not repository_found:
                raise ConfigError(
                    f"{source} is not a folder here, nor a repository that can be read from the hub "
                    f"({reason_of(error)}); name an adapter's folder or repository."
                ) from error
    if not path.is_file():
        raise ConfigError(f"{source} holds no {SIDECAR}, so it is a plain LoRA adapter; read it with LoraConfig.")
    text = read_text(path)
    try:
        values = json_value(text)
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read, because {error}; save the adapter again.") from None
    known = set(_own_names())
    if not isinstance(values, dict) or set(values) - known:
        raise ConfigError(f"{path} holds other fields than {sorted(known)}; is it from a newer version?")
    return values


def _is_whole(value: object, at_least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= at_least


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _require(name: str, value: object, valid: bool, wanted: str) -> None:
    if not valid:
        raise ConfigError(f"{name} must be {wanted}, not {shown(value)}.")
