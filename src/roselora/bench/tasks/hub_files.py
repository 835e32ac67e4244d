"""Fetch one file of a dataset repository on the hub, at a fixed commit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download

from roselora.errors import ConfigError, reason_of
from roselora.models.library_calls import quiet_libraries


@dataclass(frozen=True)
class HubFile:
    """A file of a dataset repository.

    Attributes:
        repository: such as ``openai/gsm8k``.
        path: of the file in it.
        revision: its commit: a fixed one means the same records every time, and no question to the hub once they are
            cached.
    """

    repository: str
    path: str
    revision: str


def fetch(file: HubFile, what: str, instead: str) -> Path:
    """Where the file is on this disk, fetched if it was not.

    Args:
        what: what the message calls it.
        instead: the file that a data folder can hold in its place, such as ``arithmetic/gsm8k_test.json``.

    Raises:
        ConfigError: the hub cannot be reached or does not have it.
    """
    try:
        with quiet_libraries():
            return Path(hf_hub_download(file.repository, file.path, repo_type="dataset", revision=file.revision))
    except Exception as error:  # the hub's client lets the network's errors through, and those have no common type
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
        raise ConfigError(
            f"{what} could not be fetched from the hub's {file.repository} ({reason}): see that the network is there, "
            f"or point --data-dir at a folder that holds {instead}."
        ) from None


def read_parquet(path: Path) -> list[Any]:
    """The records of a Parquet file, which is how the hub keeps its sets.

    Raises:
        ConfigError: what reads such files is not installed, or the file is broken.
    """
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError:
        raise ConfigError(
            "The hub's files are read by datasets, which is not installed: pip install 'roselora[bench]'."
        ) from None
    try:
        records: list[Any] = parquet.read_table(path).to_pylist()
    except ArrowInvalid as error:
        raise ConfigError(
            f"{path} cannot be read ({reason_of(error)}): remove it, so that it is fetched anew."
        ) from None
    return records
