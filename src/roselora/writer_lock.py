"""A file lock for the one writer of a folder, which tells others who holds it."""

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from roselora.errors import RoseLoraError
from roselora.files import read_regular, refuse_link, write_atomically

NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK})
"""The errors of a file system that has no locks."""

HOLDER_BYTES = 4096
"""How much is read of the file that names the holder of a lock."""


class LockedError(RoseLoraError):
    """Another process is writing, and the message names it; or the file system has no locks."""


@contextlib.contextmanager
def writer_lock(path: str | os.PathLike[str]) -> Iterator[None]:
    """Inside, no other process or block is the writer; the lock of a process that died is free.

    The lock is an operating-system lock on the file ``path``, in an existing folder. Its holder is written as JSON to
    ``path`` + ".holder", if the disk has room: pid, host, and since when (UTC, ISO 8601).

    Raises:
        LockedError: another process, or another block of this one, holds the lock; it is named, not waited for. Or the
            file system has no locks.
        OSError: the lock's file cannot be made or opened, or it is a link.
    """
    path = Path(path)
    holder = path.with_name(path.name + ".holder")
    os.stat(path.parent)  # otherwise FileLock makes the folder
    refuse_link(path)
    # Neither a singleton nor re-entrant, so that a second writer in this process is refused too. The soft lock that
    # filelock has for file systems without locks would stay locked for ever after its process died.
    lock = FileLock(path, timeout=0, is_singleton=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise LockedError(f"{path} is locked by {_holder_name(holder)}; wait until it is done.") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise LockedError(
            f"{path} cannot be locked, because its file system has no locks ({error.strerror}); put the folder on "
            "another."
        ) from error
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        who = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        try:
            write_atomically(holder, json.dumps(who).encode())
        except OSError:  # a full disk must not keep a process from freeing space; but the old name is wrong now
            with contextlib.suppress(OSError):
                holder.unlink(missing_ok=True)
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _holder_name(holder: Path) -> str:
    try:
        who = json.loads(read_regular(holder, HOLDER_BYTES))
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
