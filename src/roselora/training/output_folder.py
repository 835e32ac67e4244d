"""The output folder of a run: one run at a time, nothing overwritten, and nothing half-written left behind."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from roselora.errors import ConfigError, reason_of
from roselora.files import is_temporary, make_folder
from roselora.staging import is_staging
from roselora.training.checkpoints import all_unsealed, newest_whole, require_same, settings_identity
from roselora.training.config_file import read_settings
from roselora.training.train_settings import TrainSettings
from roselora.writer_lock import writer_lock

CONFIG, LOG, METRICS, DELTA = "config.yaml", "log.jsonl", "metrics.json", "delta.safetensors"
_LOCK = "lock"


def weights_folder(settings: TrainSettings) -> Path:
    """Where a finished run keeps its weights: ``adapter``, or ``model`` if the whole model was trained."""
    return Path(settings.output, "model" if settings.method == "full" else "adapter")


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Create a folder and hold its lock while the block runs; folders that stay empty are removed afterwards.

    Raises:
        ConfigError: the output is a file, or cannot be written to.
        LockedError: another run writes to it.
    """
    _require_no_file(output)
    with ExitStack() as cleanup:
        created = [folder for folder in (output, *output.parents) if not _exists(folder)]
        for folder in reversed(created):  # the stack runs backwards, so the innermost folder is removed first
            cleanup.callback(_remove_if_empty, folder)
        try:
            make_folder(output)
            cleanup.enter_context(writer_lock(output / _LOCK))
        except OSError as error:
            raise ConfigError(
                f"output {output} cannot be written to ({reason_of(error)}); name another folder."
            ) from None
        # The file goes while its lock is still held. A process that takes the lock later creates a new file.
        cleanup.callback((output / _LOCK).unlink, missing_ok=True)
        yield


def find_checkpoint(settings: TrainSettings, resume: bool) -> Path | None:
    """The checkpoint to resume from, or None for a run from the start; nothing is written.

    A run from the start needs an output that is empty, or that holds only what a run with the same settings had written
    when it was killed, without a whole checkpoint. ``clear_unfinished`` removes those files.

    Raises:
        ConfigError: the output holds anything else, or with ``resume``: no whole checkpoint, or one of a run with other
            settings.
    """
    output = Path(settings.output)
    _require_no_file(output)
    files = [path for path in output.iterdir() if not _belongs_to_lock(path)] if _exists(output) else []
    if not files:
        if resume:
            raise ConfigError(f"output {output} holds no run to resume; start without --resume.")
        return None
    if weights_folder(settings).exists():
        raise ConfigError(f"output {output} is not empty, but holds a finished run; name another folder.")
    checkpoint = newest_whole(settings.checkpoints)
    if checkpoint is None:
        if not _are_unfinished(files, settings):
            raise ConfigError(
                f"output {output} is not empty, and holds no whole checkpoint to resume from; name another folder, or "
                f"empty this one{', and start without --resume' if resume else ''}."
            )
        if resume:
            raise ConfigError(f"output {output} holds no whole checkpoint to resume from; start without --resume.")
        return None
    if not resume:
        raise ConfigError(f"output {output} is not empty; name another folder, or resume the run with --resume.")
    require_same(checkpoint, {"settings": settings_identity(settings)})
    return checkpoint


def clear_unfinished(settings: TrainSettings) -> None:
    """Remove the files of an unfinished run, except whole checkpoints and the config file needed to resume."""
    output = Path(settings.output)
    names = [LOG, METRICS, DELTA, weights_folder(settings).name]
    if newest_whole(settings.checkpoints) is None:
        names += [settings.checkpoints.name, CONFIG]  # the config last: without it the rest is nobody's
    for path in (output / name for name in names):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _are_unfinished(files: Sequence[Path], settings: TrainSettings) -> bool:
    """Whether these files are all that a run with these settings wrote before it was killed.

    A run writes its config file first, so that one tells whose the others are. A checkpoint with a manifest was whole
    once: even a damaged one is the user's to remove.
    """
    expected = {CONFIG, LOG, METRICS, DELTA, settings.checkpoints.name}
    if not all(path.name in expected or is_staging(path) for path in files) or not all_unsealed(settings.checkpoints):
        return False
    try:
        written = read_settings(Path(settings.output, CONFIG))
    except ConfigError:
        return False
    return written.model_copy(update={"output": settings.output}) == settings  # the folder may have been moved


def _require_no_file(output: Path) -> None:
    if _exists(output) and not output.is_dir():
        raise ConfigError(f"output {output} is a file; name a new or empty folder.")


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # the name is too long, or a folder above is not readable
        return False


def _belongs_to_lock(path: Path) -> bool:
    """Whether this is the lock, or what a killed process left of it."""
    return path.name in (_LOCK, f"{_LOCK}.holder") or is_temporary(path)
