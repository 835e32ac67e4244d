"""The store's delta files: one safetensors file for each delta, named by its SHA-256."""

import hashlib
from pathlib import Path

from roselora.delta import delta_file
from roselora.delta.sparse_delta import SparseDelta
from roselora.errors import FileFormatError
from roselora.files import is_temporary, read_regular, refuse_link, write_atomically


def delta_path(folder: Path, sha256: str) -> Path:
    """Where the delta with this hash lies."""
    return folder / f"{sha256}.safetensors"


def write_delta(folder: Path, delta: SparseDelta) -> str:
    """Write a delta into the folder; returns its SHA-256.

    Raises:
        ConfigError: the delta's metadata is too long.
        OSError: the folder is a link, or cannot be written.
    """
    data = delta_file.encode(delta)
    sha256 = hashlib.sha256(data).hexdigest()
    refuse_link(folder)
    # Written even if the file exists: a crash may have kept its name from reaching the disk.
    write_atomically(delta_path(folder, sha256), data)
    return sha256


def read_delta(folder: Path, sha256: str) -> SparseDelta:
    """The delta with this hash; every byte of its file is checked.

    Raises:
        FileFormatError: the file is missing or a link, has another SHA-256 or is not a delta.
    """
    path = delta_path(folder, sha256)
    try:
        refuse_link(folder)
        data = read_regular(path)
    except OSError as error:
        raise FileFormatError(f"{path} cannot be read: {error.strerror or error}; restore it from a copy.") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise FileFormatError(f"{path} is damaged: its SHA-256 is not its name; restore it from a copy.")
    return delta_file.decode(data, str(path))


def removable_files(database: Path, folder: Path) -> set[Path]:
    """Every delta file, and every temporary file that a killed process left; files of any other name are not ours.

    Raises:
        OSError: the folder of deltas is a link, so what lies there is not the store's.
    """
    refuse_link(folder)
    temporary = filter(is_temporary, [*database.parent.glob(".*.tmp"), *folder.glob(".*.tmp")])
    named_by_hash = (path for path in folder.glob("*.safetensors") if len(path.stem) == 64)
    return {path for path in (*temporary, *named_by_hash) if path.is_file()}
