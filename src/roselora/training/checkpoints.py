"""Checkpoints that are complete or ignored, and a check that a resumed run is still the same run.

The Trainer writes the files of a checkpoint one by one, so a kill or a full disk can leave any part of them. We write a
manifest with the size and hash of every file last, after all of them are on the disk. A folder without a manifest, or
with files that differ from it, is never resumed from.
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
"""Checkpoints that stay on the disk: the last one, and the one before it in case the last is damaged later."""

_FOLDER = re.compile(r"checkpoint-(\d+)")
_LOCATIONS = {"model", "output", "data.train", "data.eval", "retention.prompts", "training.device"}
"""Settings that may change before a run is resumed: they say where something is, and its contents are compared."""
_VOLATILE = {"_name_or_path", "transformers_version"}
"""Keys of a model config that depend on where the model lies and on who reads it."""

Identity = dict[str, dict[str, Any]]
"""What makes two runs the same: ``settings`` by dotted key, and hashes and counts of the ``inputs``."""


def settings_identity(settings: TrainSettings) -> dict[str, Any]:
    """Every setting by its dotted key, without those whose contents :func:`inputs_identity` has."""
    return {name: value for name, value in _leaves(settings.model_dump(mode="json")) if name not in _LOCATIONS}


def inputs_identity(prepared: Prepared, prompts_sha256: str | None) -> dict[str, Any]:
    """Hashes and counts of everything a run is made from besides its settings, by the name that messages use."""
    tokenizer: Any = prepared.tokenizer
    train, validation = prepared.examples.train, prepared.examples.eval
    sources = prepared.examples.sources
    return {
        "base model": prepared.base_fingerprint,
        "model config": _sha256([_lasting(cast(PreTrainedModel, prepared.model).config.to_dict())]),
        "tokenizer or chat template": _sha256([[tokenizer.chat_template, sorted(tokenizer.get_vocab().items())]]),
        "training data": _source_identity(sources["train"]),
        "held-out data": _source_identity(sources.get("eval", {})),  # the key that manifests have always had
        "tokens of the examples": _sha256(example for part in (train, validation) for example in part or []),
        "retention prompts": prompts_sha256,
        "number of processes": processes.count(),
    }


def require_same(checkpoint: Path, identity: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to resume from a checkpoint of another run; parts that ``identity`` lacks are not compared.

    Raises:
        ConfigError: a setting or input differs; the message names the first one.
    """
    saved = _manifest(checkpoint)["identity"]
    for part, values in identity.items():
        for name in [*values, *(name for name in saved[part] if name not in values)]:
            before, now = saved[part].get(name), values.get(name)
            if json.dumps(before) != json.dumps(now):
                raise ConfigError(
                    f"The {name.replace('held-out', 'validation')} of the run of {checkpoint} has changed "
                    f"({_shown(before)}, now {_shown(now)}); resume with what it had, or start a new run in another "
                    "output."
                )


def newest_whole(checkpoints: Path) -> Path | None:
    """The last checkpoint whose files are all as they were written, or None."""
    found = [(int(match[1]), path) for path in _folders(checkpoints) if (match := _FOLDER.fullmatch(path.name))]
    return next((path for _, path in sorted(found, reverse=True) if is_whole(path)), None)


def is_whole(checkpoint: Path) -> bool:
    """Whether there is a manifest, and every file in it is as it was written."""
    try:
        manifest = _manifest(checkpoint)
        known = all(isinstance(manifest["identity"][part], dict) for part in ("settings", "inputs"))
        return known and all(
            (checkpoint / name).stat().st_size == file["bytes"] and sha256_file(checkpoint / name) == file["sha256"]
            for name, file in manifest["files"].items()
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def all_unsealed(checkpoints: Path) -> bool:
    """Whether a folder is missing, or holds only checkpoints that were never complete."""
    if not checkpoints.exists():
        return True
    return checkpoints.is_dir() and all(
        path.name == "README.md"  # the model card that trl writes beside every checkpoint
        or (_FOLDER.fullmatch(path.name) and not (path / MANIFEST).exists())
        for path in checkpoints.iterdir()
    )


def seal(checkpoint: Path, identity: Identity) -> None:
    """Flush a checkpoint's files to the disk, then write the manifest that declares them complete.

    Raises:
        OSError: the disk refused; the checkpoint is not whole.
    """
    paths = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != MANIFEST)
    mode = checkpoint.stat().st_mode & 0o666  # the umask's; safetensors writes 0600 under any umask
    for path in paths:
        path.chmod(mode)
        flush(path)
    files = {
        path.relative_to(checkpoint).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in paths
    }
    # The names of the files must survive a power cut too, before the manifest says that they are there.
    for folder in {path.parent for path in paths}:
        flush(folder)
    manifest = {"identity": identity, "files": files}
    write_atomically(checkpoint / MANIFEST, json.dumps(manifest, indent=2).encode() + b"\n")
    flush(checkpoint.parent)


class CheckpointCallback(TrainerCallback):
    """Seals each checkpoint that the Trainer has written, and only then removes the ones that it replaces.

    The Trainer's own rotation (``save_total_limit``) would remove the old ones before the new one is on the disk.
    """

    def __init__(self, identity: Identity, resumed_from: Path | None) -> None:
        self._identity = identity
        self._kept = [] if resumed_from is None else [resumed_from]

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Called in every process; each has written files of its own, such as its random state."""
        processes.wait()
        if not state.is_world_process_zero:
            return
        checkpoint = Path(str(args.output_dir), f"checkpoint-{state.global_step}")
        seal(checkpoint, self._identity)
        self._kept = [*self._kept, checkpoint][-KEPT:]
        for folder in _folders(checkpoint.parent):
            if folder not in self._kept:
                shutil.rmtree(folder, ignore_errors=True)


def _source_identity(source: Mapping[str, Any]) -> str | None:
    """A file's hash, or the name of a hub dataset."""
    identity: str | None = source.get("sha256", source.get("source"))
    return identity


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
    """A model config, and the configs nested in it, without their volatile keys."""
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
