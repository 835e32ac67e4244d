"""Paths that users type, atomic writes and careful reads of files, and hashes of files and tensors."""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from pathlib import Path

import torch
from torch import Tensor

from roselora.errors import ConfigError

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
"""Suffixes of files that may contain a pickle, which can run code when it is read; such files are never opened."""


def user_path(path: str | os.PathLike[str]) -> Path:
    """The path that a user typed: a leading ``~`` or ``~name`` is that user's home folder; nothing else is special.

    Every path from an option, a config file or a caller goes through here, possibly several times. The name of an
    unknown user stays as it is, as in a shell.

    Raises:
        ConfigError: no file can have that name, because it contains a NUL or a lone surrogate.
    """
    try:
        possible = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise ConfigError(f"{os.fspath(path)!r} cannot be a path, because no file can have such a name; name another.")
    expanded = os.path.expanduser(path)
    found = Path(expanded)
    # Path drops the dot of `./~`, which names a folder `~` and must still do so when it goes through here again.
    return Path.cwd() / found if found.name and not expanded.startswith("~") and found.parts[0][0] == "~" else found


def write_atomically(path: str | os.PathLike[str], data: bytes, *, follow_link: bool = False) -> None:
    """Write ``data`` to ``path`` so that a reader, or a crash at any moment, finds either the old file or the new one.

    The bytes go to a temporary file in the same folder, which is flushed to the disk and then renamed to ``path``. The
    folder is flushed last, so that the new name survives a power cut. An existing file's mode is kept.

    Args:
        follow_link: whether a symbolic link stays and the file that it points to is written, as for a path that the
            user named. Otherwise the link is replaced, because a folder from someone else may link to any file of the
            user's.

    Raises:
        OSError: the folder is missing, full or not writable; ``path`` is unchanged, and the temporary file is removed.
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
    """Whether this is the name of a temporary file that `write_atomically` leaves behind if it is killed."""
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
    """Refuse a symbolic link.

    Raises:
        OSError: ``path`` is one; its ``strerror`` says so.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link, and links are not followed here", str(path))


def require_regular(path: Path) -> os.stat_result:
    """The status of a regular file.

    Raises:
        OSError: there is no such file, or it is a link, a folder, a pipe or a device; its ``strerror`` says so.
    """
    refuse_link(path)
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return found


def read_regular(path: Path, at_most: int = -1) -> bytes:
    """The bytes of a regular file, all or the first ``at_most``; links are not followed, and pipes are not waited for.

    Raises:
        OSError: there is no such file, it is a link, a folder or a device, or it cannot be read.
    """
    require_regular(path)
    with open(path, "rb") as file:
        return file.read(at_most)


def flush(path: Path) -> None:
    """Flush a file's bytes, or the names in a folder, so that they survive a power cut, if the file system can.

    Raises:
        OSError: it is missing, or the disk fails.
    """
    if os.name != "posix":
        return  # Windows can neither open a folder nor flush a file opened for reading, and its rename is durable.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot flush a folder
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, so that their names survive a power cut; an existing folder is left alone.

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

    Hashed are the dtype's name without "torch.", each dimension in decimal, separated by single spaces, a newline, and
    the elements in row-major, little-endian order. So the same bytes with another dtype or shape have another hash. Any
    dtype works; a contiguous CPU tensor is hashed without a copy.
    """
    elements = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
    digest = hashlib.sha256(" ".join([dtype_name(tensor.dtype), *map(str, tensor.shape)]).encode() + b"\n")
    digest.update(elements.numpy().data)
    return digest.hexdigest()


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a dtype without "torch.".

    >>> dtype_name(torch.bfloat16)
    'bfloat16'
    """
    return str(dtype).removeprefix("torch.")
