"""Folders and files that appear complete or not at all: made in a staging folder, flushed to the disk, then renamed.

The staging folder is made beside the target, because a rename works within one file system only. It is locked while its
process lives. So the next process that stages something there can tell what a killed process left, and remove it.
"""

import contextlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from roselora.files import flush, make_folder

LOCK = ".lock"


@contextlib.contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """A new folder beside ``target`` in which to make it, for :func:`put_in_place`; afterwards the folder is removed.

    The parents of ``target`` are made, and those that an error leaves empty are removed again.

    Raises:
        OSError: the disk failed.
    """
    missing = [folder for folder in target.parents if not folder.exists()]
    try:
        make_folder(target.parent)
        remove_stale(target.parent)
        staging, lock = _locked_folder(target)
        try:
            yield staging
        finally:
            lock.release()
            shutil.rmtree(staging, ignore_errors=True)
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def put_in_place(made: Path, target: Path) -> None:
    """Flush a file or folder in the staging folder of ``target``, and rename it to ``target``.

    Files get the mode that the umask gives; safetensors writes mode 0600 under any umask. A folder that replaces an
    empty one gets the mode and group of that one.

    Raises:
        OSError: the disk failed, or something exists at ``target``.
    """
    everything = [made, *made.rglob("*")]
    _share(everything, made.parent, target)
    for path in reversed(everything):
        flush(path)
    os.replace(made, target)
    flush(target.parent)


def remove_stale(folder: Path) -> list[Path]:
    """Remove the staging folders that killed processes left in a folder, and return them; those in use stay."""
    try:
        found = sorted(filter(is_staging, folder.iterdir()))
    except OSError:  # a folder that can be written to but not listed
        return []
    for path in found:
        _remove_unlocked(path)
    return [path for path in found if not path.exists()]


def is_staging(path: Path) -> bool:
    """Whether this is a staging folder, in use or left by a killed process."""
    named = re.fullmatch(r"\..+\.[0-9a-f]{16}\.staging", path.name) is not None
    return named and path.is_dir() and not path.is_symlink()


def _remove_unlocked(staging: Path) -> None:
    lock = FileLock(staging / LOCK, timeout=0, is_singleton=False)
    with contextlib.suppress(Timeout, OSError), lock:
        shutil.rmtree(staging, ignore_errors=True)


def _locked_folder(target: Path) -> tuple[Path, FileLock]:
    while True:
        staging = target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.staging")
        staging.mkdir()
        lock = FileLock(staging / LOCK, timeout=0, is_singleton=False)
        try:
            lock.acquire()
        except Timeout:  # another process found it before this one locked it, and is removing it
            continue
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        return staging, lock


def _share(paths: list[Path], staging: Path, target: Path) -> None:
    """Give files the mode that the umask gives, and a folder the mode and group of the empty one that it replaces."""
    mode = stat.S_IMODE(staging.stat().st_mode) & 0o666
    for path in paths:
        if path.is_file() and stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)
    if target.is_dir() and os.name == "posix":
        there = target.stat()
        for path in paths:
            if path.stat().st_gid != there.st_gid:
                with contextlib.suppress(PermissionError):
                    os.chown(path, -1, there.st_gid)
        paths[0].chmod(stat.S_IMODE(there.st_mode))
