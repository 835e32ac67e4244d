"""What is staged appears whole, flushed, with ordinary modes; what kills and failures leave goes away."""

import os
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roselora.staging import put_in_place, remove_stale, staging_folder

posix_only = pytest.mark.skipif(os.name != "posix", reason="modes, flushed folders and forks are POSIX")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="a descriptor is named by /proc")


def write(made: Path) -> None:
    """A folder as a library writes it: a closed mode, and a folder within."""
    (made / "templates").mkdir(parents=True)
    (made / "templates" / "tool.jinja").write_text("{{ tool }}")
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"weights")
    (made / "model.safetensors").chmod(0o600)


def save(target: Path) -> None:
    with staging_folder(target) as staging:
        write(staging / "made")
        put_in_place(staging / "made", target)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@linux_only
def test_promise_5_every_file_and_folder_is_on_the_disk_before_the_rename_and_the_new_name_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        size = "" if os.path.isdir(path) else f" {os.path.getsize(path)}"
        events.append(("flush", os.path.basename(path) + size))
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        events.append(("rename", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    save(tmp_path / "new" / "out")
    at = events.index(("rename", "out"))
    assert set(events[:at]) >= {
        ("flush", "config.json 2"),
        ("flush", "model.safetensors 7"),
        ("flush", "tool.jinja 10"),
        ("flush", "templates"),
        ("flush", "made"),
    }
    assert events.index(("flush", "made")) > events.index(("flush", "config.json 2"))
    assert ("flush", tmp_path.name) in events[:at]  # the name of the new folder above
    assert events[at + 1 :] == [("flush", "new")]


@posix_only
@pytest.mark.parametrize(
    ("mask", "files", "folders"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0o002, 0o664, 0o775)]
)
def test_modes_are_those_that_the_umask_gives(tmp_path: Path, umask: None, mask: int, files: int, folders: int) -> None:
    os.umask(mask)
    save(tmp_path / "out")
    assert {mode(path) for path in tmp_path.rglob("*") if path.is_file()} == {files}
    assert {mode(path) for path in tmp_path.rglob("*") if path.is_dir()} == {folders}


@posix_only
def test_the_group_bit_of_the_folder_above_is_inherited(tmp_path: Path, umask: None) -> None:
    tmp_path.chmod(0o2775)
    save(tmp_path / "out")
    assert mode(tmp_path / "out") == mode(tmp_path / "out" / "templates") == 0o2755


@posix_only
def test_an_empty_folder_that_is_filled_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o2750)
    save(tmp_path / "out")
    assert mode(tmp_path / "out") == 0o2750
    assert (tmp_path / "out" / "config.json").read_text() == "{}"


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()], ids=["full", "interrupted"])
def test_a_failure_leaves_nothing_and_no_folders_made_on_the_way(tmp_path: Path, error: BaseException) -> None:
    def fail() -> None:
        with staging_folder(tmp_path / "a" / "b" / "out") as staging:
            write(staging / "made")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert list(tmp_path.iterdir()) == []


@posix_only
def test_what_a_killed_process_left_is_removed_by_the_next_and_what_is_being_written_stays(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with staging_folder(tmp_path / "killed") as staging:
            write(staging / "made")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    assert (left / "made" / "model.safetensors").exists()
    mine = tmp_path / ".notes.0123456789abcdef.backup"
    mine.mkdir()
    with staging_folder(tmp_path / "slow") as staging:
        assert set(tmp_path.iterdir()) == {staging, mine}
        save(tmp_path / "quick")
        write(staging / "made")
        put_in_place(staging / "made", tmp_path / "slow")
    assert set(tmp_path.iterdir()) == {tmp_path / "quick", tmp_path / "slow", mine}


@posix_only
def test_no_link_is_followed_when_what_was_left_is_removed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    write(precious)
    (tmp_path / ".out.0123456789abcdef.staging").symlink_to(precious)
    (tmp_path / ".out.fedcba9876543210.staging").mkdir()
    (tmp_path / ".out.fedcba9876543210.staging" / "link").symlink_to(precious)
    remove_stale(tmp_path)
    assert not (tmp_path / ".out.fedcba9876543210.staging").exists()
    assert (precious / "templates" / "tool.jinja").exists()
