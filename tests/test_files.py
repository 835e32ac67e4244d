"""Files are complete or absent, whatever fails; hashes and paths mean what they say."""

import errno
import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from roselora.errors import ConfigError
from roselora.files import (
    make_folder,
    read_regular,
    sha256_file,
    sha256_tensor,
    user_path,
    write_atomically,
)

KILLED_AT_EACH_POINT = """
import os, signal, sys
from pathlib import Path
from roselora.files import write_atomically

POINTS = [(name, when) for name in ("open", "write", "fsync", "replace") for when in ("before", "after")]


class Dying:
    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def die_at(name, when):
    if name == "write":
        real = os.fdopen
        os.fdopen = lambda *args, **options: Dying(real(*args, **options))
        return
    real = getattr(os, name)

    def dying(*args, **options):
        if when == "after":
            real(*args, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(os, name, dying)


for name, when in POINTS:
    folder = Path(sys.argv[1]) / f"{name}-{when}"
    folder.mkdir()
    (folder / "file").write_bytes(b"old" * 1000)
    child = os.fork()
    if child == 0:
        die_at(name, when)
        write_atomically(folder / "file", b"new" * 2000)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, (name, when)
"""


def test_a_file_is_written_and_overwritten_and_nothing_else_is_left(tmp_path: Path) -> None:
    for data in (b"one", b"", b"two" * 100_000):
        write_atomically(tmp_path / "file", data)
        assert (tmp_path / "file").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="modes and links are POSIX")
def test_promise_5_mode_and_link_are_kept_and_a_new_file_obeys_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"one")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    (tmp_path / "file").chmod(0o604)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_atomically(tmp_path / "link", b"two", follow_link=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"two"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o604


@pytest.mark.skipif(os.name != "posix", reason="links are POSIX")
def test_a_link_that_the_user_did_not_name_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    write_atomically(tmp_path / "link", b"new")
    assert not (tmp_path / "link").is_symlink()
    assert ((tmp_path / "mine").read_bytes(), (tmp_path / "link").read_bytes()) == (b"precious", b"new")


@pytest.mark.skipif(os.name != "posix", reason="links and pipes are POSIX")
def test_only_an_ordinary_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abcdef")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")  # to open it as usual would wait for ever
    assert (read_regular(tmp_path / "file"), read_regular(tmp_path / "file", 4)) == (b"abcdef", b"abcd")
    with pytest.raises(OSError, match="it is a symbolic link"):
        read_regular(tmp_path / "link")
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(tmp_path / "pipe")


FAULTS: list[tuple[str, int]] = [
    ("open", errno.EACCES),
    ("open", errno.EROFS),
    ("chmod", errno.EPERM),
    ("fdopen", errno.ENOMEM),
    ("fsync", errno.EIO),
    ("fsync", errno.ENOSPC),
    ("replace", errno.EACCES),
]


@pytest.mark.parametrize(("point", "code"), FAULTS, ids=[f"{point} {errno.errorcode[code]}" for point, code in FAULTS])
@pytest.mark.parametrize("interrupt", [False, True], ids=["error", "interrupt"])
def test_promise_5_a_fault_at_any_point_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, code: int, interrupt: bool
) -> None:
    (tmp_path / "file").write_bytes(b"old")
    failure: BaseException = KeyboardInterrupt() if interrupt else OSError(code, os.strerror(code))

    def fail(*args: Any, **options: Any) -> None:
        raise failure

    monkeypatch.setattr(os, point, fail)
    with pytest.raises(type(failure)):
        write_atomically(tmp_path / "file", b"new")
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_promise_5_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    import resource
    import signal

    (tmp_path / "file").write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write then fails, half done
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_atomically(tmp_path / "file", b"new" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_promise_5_a_folder_that_cannot_be_flushed_is_reported_and_the_file_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def second_fails(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.EIO, "disk")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", second_fails)
    with pytest.raises(OSError, match="disk"):
        write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_promise_5_killed_at_any_point_leaves_before_or_after(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED_AT_EACH_POINT, str(tmp_path)], check=True)
    found = {folder.name: (folder / "file").read_bytes() for folder in tmp_path.iterdir()}
    assert len(found) == 8
    for name, data in found.items():
        assert data == (b"new" * 2000 if name == "replace-after" else b"old" * 1000), name


def test_the_hash_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc" * 100_000)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_the_hash_of_a_tensor_is_that_of_its_dtype_shape_and_bytes() -> None:
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    expected = hashlib.sha256(b"float32 2 3\n" + values.tobytes()).hexdigest()
    assert sha256_tensor(torch.from_numpy(values)) == expected
    assert sha256_tensor(torch.from_numpy(values.T.copy()).T) == expected
    words = values.astype("<f4").view("<u4") >> 16  # these six numbers are exact in bfloat16
    expected = hashlib.sha256(b"bfloat16 2 3\n" + words.astype("<u2").tobytes()).hexdigest()
    assert sha256_tensor(torch.from_numpy(values).bfloat16()) == expected


@pytest.mark.parametrize(
    "alter",
    [lambda t: t.T, lambda t: t.reshape(-1), lambda t: t.view(torch.int32), lambda t: -t, lambda t: t[:1]],
    ids=["transposed", "flat", "other dtype", "minus zero", "part"],
)
def test_another_tensor_has_another_hash(alter: Callable[[torch.Tensor], torch.Tensor]) -> None:
    tensor = torch.zeros(2, 3)
    assert sha256_tensor(alter(tensor)) != sha256_tensor(tensor)
    assert sha256_tensor(torch.tensor(1.0)) != sha256_tensor(torch.tensor([1.0]))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("~/run", "{home}/run"),
        ("~", "{home}"),
        (Path("~/run"), "{home}/run"),
        ("~nobody-has-this-name/run", "~nobody-has-this-name/run"),
        ("./~/run", "{here}/~/run"),
        ("runs/~/[1]*?", "runs/~/[1]*?"),
        ("$HOME/%20", "$HOME/%20"),
        ("/~", "/~"),
        ("", "."),
    ],
)
def test_a_path_means_what_was_typed_and_a_leading_tilde_the_home_folder(
    typed: str | Path, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/somewhere/home")
    wanted = Path(meant.format(home="/somewhere/home", here=Path.cwd()))
    assert user_path(typed) == wanted
    assert user_path(user_path(typed)) == wanted


@pytest.mark.parametrize("typed", ["a\0b", "~\0/b", Path("a\0b"), "a\ud800"])
def test_a_path_that_no_file_can_have_is_refused(typed: str | Path) -> None:
    with pytest.raises(ConfigError, match="cannot be a path"):
        user_path(typed)


@pytest.mark.skipif(sys.platform != "linux", reason="a descriptor is named by /proc")
def test_promise_5_the_names_of_new_folders_are_on_the_disk_and_one_that_is_there_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    make_folder(tmp_path / "a" / "b")
    assert sorted(flushed) == [str(tmp_path), str(tmp_path / "a")]
    monkeypatch.chdir(tmp_path)
    make_folder(Path("a/b/c"))
    assert flushed[2:] == [str(tmp_path / "a" / "b")]
    make_folder(Path("a"))
    assert len(flushed) == 3


def test_a_temporary_file_is_known_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from roselora import files

    names = []
    monkeypatch.setattr(files.os, "replace", lambda source, target: names.append(source))
    write_atomically(tmp_path / f"{'a' * 64}.safetensors", b"x")
    write_atomically(tmp_path / "edits.sqlite", b"x")
    assert all(files.is_temporary(name) for name in names)
    assert not files.is_temporary(tmp_path / "edits.sqlite")
