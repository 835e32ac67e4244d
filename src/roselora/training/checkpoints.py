"""Checkpoints that are whole or not there: what a run may go on from, and whether it is still the same run.

The Trainer writes a checkpoint's files one by one, so a kill or a full disk can end it anywhere. A manifest with every
file's size and hash is written last, when all of them are on the disk; a folder without one, or with files that differ
from it, is never gone on from.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from roselora.errors import ConfigError
from roselora.files import flush, sha256_file, write_atomically
from roselora.training import processes
from roselora.training.prepare import Prepared
from roselora.training.train_settings import TrainSettings

MANIFEST = "whole.json"
KEPT = 2
"""Checkpoints that stay on the disk: the last one, and the one before it, in case the last is damaged later."""

_FOLDER = re.compile(r"checkpoint-(\d+)")
_PLACES = {"model", "output", "data.train", "data.eval", "retention.prompts", "training.device"}
"""Settings that say where a thing is: that may change while a run rests, and what it holds may not."""
_VOLATILE = {"_name_or_path", "transformers_version"}

Identity = dict[str, dict[str, Any]]
"""What makes a run the same run: its ``settings`` by dotted key, and the hashes and counts of its ``inputs``."""


def settings_identity(settings: TrainSettings) -> dict[str, Any]:
    """Every setting by its dotted key, but for those that :func:`inputs_identity` knows by what they hold."""
    # Validated, since a default of 16 and a file's 16.0 are the same setting.
    values = TrainSettings.model_validate(settings.model_dump()).model_dump(mode="json")
    return {name: value for name, value in _leaves(values) if name not in _PLACES}


def inputs_identity(prepared: Prepared, prompts_sha256: str | None) -> dict[str, Any]:
    """What a run is made from besides its settings, by the words of a message."""
    tokenizer: Any = prepared.tokenizer
    inputs: dict[str, Any] = {
        "base model": prepared.base_fingerprint,
        "model config": _sha256([_lasting(cast(PreTrainedModel, prepared.model).config.to_dict())]),
        "tokenizer or chat template": _sha256([[tokenizer.chat_template, sorted(tokenizer.get_vocab().items())]]),
    }
    for part, name in (("train", "training data"), ("eval", "held-out data")):
        source = prepared.examples.sources.get(part, {})
        inputs[name] = source.get("sha256", source.get("source"))
    parts = (prepared.examples.train, prepared.examples.eval)
    inputs["tokens of the examples"] = _sha256(example for part in parts for example in part or [])
    inputs["retention prompts"] = prompts_sha256
    inputs["number of processes"] = processes.count()
    return inputs


def require_same(checkpoint: Path, identity: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to go on from a checkpoint of another run; parts that ``identity`` lacks are not compared.

    Raises:
        ConfigError: a setting or input differs; the message names the first.
    """
    earlier = _manifest(checkpoint)["identity"]
    for part, values in identity.items():
        for name in [*values, *(name for name in earlier[part] if name not in values)]:
            before, now = earlier[part].get(name), values.get(name)
            if json.dumps(before) != json.dumps(now):
                raise ConfigError(
                    f"What the run of {checkpoint} had as {name} has changed ({_shown(before)}, now {_shown(now)}); "
                    "go on with what it had, or start anew in another output."
                )


def newest_whole(checkpoints: Path) -> Path | None:
    """The checkpoint with most steps of which every file is as it was written, or None."""
    found = [(int(match[1]), path) for path in _folders(checkpoints) if (match := _FOLDER.fullmatch(path.name))]
    return next((path for _, path in sorted(found, reverse=True) if is_whole(path)), None)


def is_whole(checkpoint: Path) -> bool:
    """Whether the manifest is there, and every file that it names is as it was written."""
    try:
        manifest = _manifest(checkpoint)
        known = all(isinstance(manifest["identity"][part], dict) for part in ("settings", "inputs"))
        return known and all(
            (checkpoint / name).stat().st_size == file["bytes"] and sha256_file(checkpoint / name) == file["sha256"]
            for name, file in manifest["files"].items()
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def seal(checkpoint: Path, identity: Identity) -> None:
    """Put a checkpoint's files on the disk, and then the manifest that says they are all there.

    Raises:
        OSError: the disk refused; the checkpoint is not whole.
    """
    paths = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != MANIFEST)
    mode = checkpoint.stat().st_mode & 0o666  # as the umask has it; safetensors writes 0600 under any
    for path in paths:
        path.chmod(mode)
        flush(path)
    files = {
        path.relative_to(checkpoint).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in paths
    }
    for folder in {path.parent for path in paths}:
        flush(folder)
    manifest = {"identity": identity, "files": files}
    write_atomically(checkpoint / MANIFEST, json.dumps(manifest, indent=2).encode() + b"\n")
    flush(checkpoint.parent)


class CheckpointCallback(TrainerCallback):
    """Seals each checkpoint when the Trainer has written it, and only then removes the ones that it replaces."""

    def __init__(self, identity: Identity, resumed_from: Path | None) -> None:
        self._identity = identity
        self._kept = [] if resumed_from is None else [resumed_from]

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Called on every process, each of which has written files of its own."""
        processes.wait()
        if not state.is_world_process_zero:
            return
        checkpoint = Path(str(args.output_dir), f"checkpoint-{state.global_step}")
        seal(checkpoint, self._identity)
        self._kept = [*self._kept, checkpoint][-KEPT:]
        for folder in _folders(checkpoint.parent):
            if folder not in self._kept:
                shutil.rmtree(folder, ignore_errors=True)


def _folders(checkpoints: Path) -> list[Path]:
    if not checkpoints.is_dir():
        return []
    return [path for path in checkpoints.iterdir() if _FOLDER.fullmatch(path.name) and path.is_dir()]


def _manifest(checkpoint: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((checkpoint / MANIFEST).read_bytes())
    return manifest


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _lasting(config: Any) -> Any:
    """A model's config, and those within it, without what says where it lies and which version read it."""
    if not isinstance(config, dict):
        return config
    return {str(name): _lasting(value) for name, value in config.items() if name not in _VOLATILE}


def _sha256(values: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for value in values:
        digest.update(json.dumps(value, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()


def _shown(value: Any) -> str:
    return value[:12] if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else json.dumps(value)
