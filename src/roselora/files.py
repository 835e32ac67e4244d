"""Files that are whole or absent: atomic writes, hashes, and a lock that names its holder."""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import socket
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from roselora.errors import ConfigError, RoseLoraError

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
"""Endings of files that may hold a pickle, which can run code when it is read; none of them is ever opened."""


NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK})
"""What a file system without locks answers when it is asked for one."""

HOLDER_BYTES = 4096
"""How much of the file that names a lock's holder is read."""


class LockedError(RoseLoraError):
    """Another process is writing, and the message says which; or no lock can be had to keep others out."""


def user_path(path: str | os.PathLike[str]) -> Path:
    """The path that a user typed: a leading ``~`` or ``~name`` is that home folder, and nothing else is special.

    Every path from an option, a config file or a caller goes through here, once or more often; a name that no user
    has stays as it stands, as in a shell.

    Raises:
        ConfigError: no file can have that name, for it holds a NUL or half a character.
    """
    try:
        possible = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise ConfigError(f"{os.fspath(path)!r} cannot be a path, for no file can have such a name; name another.")
    expanded = os.path.expanduser(path)
    found = Path(expanded)
    # Path drops the dot of `./~`, which is a folder of that name and must stay one at the next call too.
    return Path.cwd() / found if found.name and not expanded.startswith("~") and found.parts[0][0] == "~" else found


def write_atomically(path: str | os.PathLike[str], data: bytes, *, follow_link: bool = False) -> None:
    """Put `data` at `path` so that a reader, or a crash at any moment, finds the old file or the new one.

    The bytes go to a new file in the same folder, which is flushed to the disk and then renamed over `path`;
    the folder is flushed last, so that the new name survives a power cut. The mode of a file that was there
    is kept.

    Args:
        follow_link: for a path that the user named: a symbolic link stays a link to the new contents. Else a link is
            replaced by the file, for a folder that came from someone else may hold one to any file of the user's.

    Raises:
        OSError: the folder is missing, full or not writable; `path` is as it was, and the temporary file is
            gone.
    """
    target = Path(os.path.realpath(path) if follow_link else path)
    temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.tmp")
    try:
        _write_and_flush(temporary, data, mode_of=target)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    flush(target.parent)


def is_temporary(path: Path) -> bool:
    """Whether this is the name of a temporary file that `write_atomically` leaves if it is killed."""
    return re.fullmatch(r"\..+\.[0-9a-f]{16}\.tmp", path.name) is not None


def _write_and_flush(path: Path, data: bytes, mode_of: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    with os.fdopen(descriptor, "wb") as file:
        with contextlib.suppress(FileNotFoundError):
            old = mode_of.lstat().st_mode
            if stat.S_ISREG(old):
                os.chmod(path, stat.S_IMODE(old))
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def refuse_link(path: Path) -> None:
    """Refuse a path at which there is a symbolic link.

    Raises:
        OSError: there is one; its `strerror` says so.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link, and none is followed here", str(path))


def require_regular(path: Path) -> os.stat_result:
    """What there is to know of an ordinary file.

    Raises:
        OSError: there is no such file, or it is a link, a folder, a pipe or a device; its `strerror` says so.
    """
    refuse_link(path)
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
    return found


def read_regular(path: Path, at_most: int = -1) -> bytes:
    """The bytes of an ordinary file, in full or the first `at_most`; no link is followed, and no pipe waited for.

    Raises:
        OSError: there is no such file, it is a link, a folder or a device, or it cannot be read.
    """
    require_regular(path)
    with open(path, "rb") as file:
        return file.read(at_most)


def flush(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, survive a power cut, where the file system can do that.

    Raises:
        OSError: it is missing, or the disk fails.
    """
    if os.name != "posix":
        return  # Windows cannot open a folder, nor flush what is open for reading, and its rename is durable.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems can't flush a folder
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, so that their names survive a power cut; one that is there is left alone.

    Raises:
        OSError: it cannot be made.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        flush(each.parent)


def sha256_file(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tensor(tensor: Tensor) -> str:
    """The SHA-256 of a tensor's dtype, shape and elements, as 64 hexadecimal digits.

    What is hashed: the dtype's name as torch prints it without "torch.", each dimension in decimal, separated by single
    spaces, a newline, then the elements in row-major, little-endian order. So the same bytes with another dtype or
    shape have another hash. Any dtype works; a contiguous CPU tensor is hashed without a copy.
    """
    elements = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
    digest = hashlib.sha256(" ".join([dtype_name(tensor.dtype), *map(str, tensor.shape)]).encode() + b"\n")
    digest.update(elements.numpy().data)
    return digest.hexdigest()


def dtype_name(dtype: torch.dtype) -> str:
    """`bfloat16` for `torch.bfloat16`."""
    return str(dtype).removeprefix("torch.")


@contextlib.contextmanager
def writer_lock(path: str | os.PathLike[str]) -> Iterator[None]:
    """Be the one writer while the block runs; a lock left by a process that died is free again.

    The lock is an operating-system lock on the file `path`, in a folder that is there. Who holds it stands as JSON in
    `path` + ".holder", where the disk has room for that: pid, host, and since when (UTC, ISO 8601).

    Raises:
        LockedError: another process, or another block of this one, holds the lock; it is named, not waited
            for. Or the file system has no locks.
        OSError: the lock's file cannot be made or opened, or it is a link.
    """
    path = Path(path)
    holder = path.with_name(path.name + ".holder")
    os.stat(path.parent)  # for FileLock would make the folder
    refuse_link(path)
    # Not a singleton and not re-entrant: a second writer in this very process must be refused too. Its soft lock, for
    # file systems without locks, would be held by the dead for ever.
    lock = FileLock(path, timeout=0, is_singleton=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise LockedError(f"{path} is locked by {_describe_holder(holder)}; wait until it is done.") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise LockedError(
            f"{path} cannot be locked, for its file system has no locks ({error.strerror}); put the folder on another."
        ) from error
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        who = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        try:
            write_atomically(holder, json.dumps(who).encode())
        except OSError:  # a full disk must not keep anyone from freeing some of it; and the last holder holds no more
            with contextlib.suppress(OSError):
                holder.unlink(missing_ok=True)
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _describe_holder(holder: Path) -> str:
    try:
        who = json.loads(read_regular(holder, HOLDER_BYTES))
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
