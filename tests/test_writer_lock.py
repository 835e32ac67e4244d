"""There is one writer, whoever dies, and others are told who it is."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from roselora.writer_lock import LockedError, writer_lock


def test_promise_8_a_second_writer_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    with writer_lock(tmp_path / "lock"):
        with (
            pytest.raises(LockedError, match=rf"locked by process {os.getpid()} on .* since \d{{4}}-"),
            writer_lock(tmp_path / "lock"),
        ):
            pass
        other = "import sys\nfrom roselora.writer_lock import writer_lock\nwith writer_lock(sys.argv[1]): pass"
        second = subprocess.run([sys.executable, "-c", other, str(tmp_path / "lock")], capture_output=True, text=True)
        assert f"locked by process {os.getpid()}" in second.stderr
    with writer_lock(tmp_path / "lock"):
        (tmp_path / "lock.holder").write_text("not JSON")
        with pytest.raises(LockedError, match="another process"), writer_lock(tmp_path / "lock"):
            pass
    assert not (tmp_path / "lock.holder").exists()


def test_promise_8_a_dead_writer_holds_nothing(tmp_path: Path) -> None:
    dying = (
        "import os, signal, sys\nfrom roselora.writer_lock import writer_lock\n"
        "with writer_lock(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", dying, str(tmp_path / "lock")]).returncode == -9
    with writer_lock(tmp_path / "lock"):
        pass


@pytest.mark.skipif(os.name != "posix", reason="links are POSIX")
def test_the_lock_follows_no_link_and_reads_no_endless_holder(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"precious")
    (tmp_path / "lock.holder").symlink_to(tmp_path / "mine")
    with writer_lock(tmp_path / "lock"):
        assert not (tmp_path / "lock.holder").is_symlink()
        (tmp_path / "lock.holder").unlink()
        (tmp_path / "lock.holder").symlink_to("/dev/zero")
        with pytest.raises(LockedError, match="another process"), writer_lock(tmp_path / "lock"):
            pass
    assert (tmp_path / "mine").read_bytes() == b"precious"
    (tmp_path / "other").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="it is a symbolic link"), writer_lock(tmp_path / "other"):
        pass


def test_promise_8_who_finds_no_room_to_name_themselves_holds_the_lock_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    (tmp_path / "lock.holder").write_text('{"pid": 7, "host": "x", "since": "long ago"}')  # of one that was killed
    with (
        writer_lock(tmp_path / "lock"),
        pytest.raises(LockedError, match="another process"),
        writer_lock(tmp_path / "lock"),
    ):
        pass


@pytest.mark.skipif(os.name != "posix", reason="flock is POSIX")
@pytest.mark.parametrize("code", ["ENOSYS", "EOPNOTSUPP", "ENOLCK"])
def test_a_file_system_without_locks_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    import fcntl

    def without(*args: Any) -> None:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(fcntl, "flock", without)
    for _ in range(2):
        with pytest.raises(LockedError, match="its file system has no locks"), writer_lock(tmp_path / "lock"):
            pass


def test_a_lock_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), writer_lock(tmp_path / "gone" / "lock"):
        pass
    assert not (tmp_path / "gone").exists()
