"""The output folder of a run: one run at a time, nothing of another's overwritten, nothing half-made left behind."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from roselora.errors import ConfigError, reason_of
from roselora.files import is_temporary, make_folder, writer_lock
from roselora.training.checkpoints import newest_whole, require_same, settings_identity
from roselora.training.train_settings import TrainSettings

CONFIG, LOG, METRICS, DELTA = "config.yaml", "log.jsonl", "metrics.json", "delta.safetensors"
_LOCK = "lock"


def weights_folder(settings: TrainSettings) -> Path:
    """Where a finished run's weights lie: ``adapter``, or ``model`` where the whole model was trained."""
    return Path(settings.output, "model" if settings.method == "full" else "adapter")


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Be the one run that writes to a folder while the block runs; folders made for it go again if they stay empty.

    Raises:
        ConfigError: the output is a file, or cannot be written to.
        LockedError: another run writes there.
    """
    _require_no_file(output)
    with ExitStack() as held:
        made = [folder for folder in (output, *output.parents) if not _is_there(folder)]
        for folder in reversed(made):  # so that the innermost goes first
            held.callback(_remove_if_empty, folder)
        try:
            make_folder(output)
            held.enter_context(writer_lock(output / _LOCK))
        except OSError as error:
            raise ConfigError(
                f"output {output} cannot be written to ({reason_of(error)}); name another folder."
            ) from None
        # Removed while it is held: whoever takes the lock next makes a new file of it.
        held.callback((output / _LOCK).unlink, missing_ok=True)
        yield


def find_checkpoint(settings: TrainSettings, resume: bool) -> Path | None:
    """The checkpoint to go on from, or None to start.

    Raises:
        ConfigError: there is none, or it belongs to other settings; the run is finished; or, without ``resume``, the
            output is not empty.
    """
    output = Path(settings.output)
    _require_no_file(output)
    if not (_is_there(output) and any(map(_is_content, output.iterdir()))):
        if resume:
            raise ConfigError(f"output {output} holds no run to go on with; start without --resume.")
        return None
    if weights_folder(settings).exists():
        raise ConfigError(f"output {output} is not empty, but holds a finished run; name another folder.")
    checkpoint = newest_whole(settings.checkpoints)
    if checkpoint is None:
        raise ConfigError(
            f"output {output} is not empty, and holds no whole checkpoint to go on from; name another folder, or empty "
            f"this one{', and start without --resume' if resume else ''}."
        )
    if not resume:
        raise ConfigError(f"output {output} is not empty; name another folder, or go on there with --resume.")
    require_same(checkpoint, {"settings": settings_identity(settings)})
    return checkpoint


def clear_unfinished(settings: TrainSettings) -> None:
    """Remove what a failed run has written, but for its whole checkpoints and the settings to go on from them."""
    output = Path(settings.output)
    names = [LOG, METRICS, DELTA, weights_folder(settings).name]
    if newest_whole(settings.checkpoints) is None:
        names += [CONFIG, settings.checkpoints.name]
    for path in (output / name for name in names):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _require_no_file(output: Path) -> None:
    if _is_there(output) and not output.is_dir():
        raise ConfigError(f"output {output} is a file; name a new or empty folder.")


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long, or a folder that nobody may look into
        return False


def _is_content(path: Path) -> bool:
    """Whether this is more than a lock, or what a killed process left of one."""
    return path.name not in (_LOCK, f"{_LOCK}.holder") and not is_temporary(path)
