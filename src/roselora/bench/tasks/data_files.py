"""Read a benchmark's file, from a data folder or from the hub, and validate its records one by one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from huggingface_hub import hf_hub_download
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from roselora.errors import ConfigError, reason_of, shortened
from roselora.files import sha256_file
from roselora.models.library_calls import quiet_libraries
from roselora.user_files import field_problem, json_records, read_text

T = TypeVar("T")


class Record(BaseModel):
    """One record in the format of its file: other fields are ignored, and no value is converted to another type."""

    model_config = ConfigDict(strict=True, frozen=True)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("it is blank")
    return text


Text = Annotated[str, AfterValidator(_not_blank)]
"""A text that is not blank."""


@dataclass(frozen=True)
class HubFile:
    """A file of a dataset repository on the hub.

    Attributes:
        repository: such as ``openai/gsm8k``.
        path: of the file in the repository.
        revision: the commit. A fixed commit gives the same records every time, and once they are cached, the hub is
            not asked again.
    """

    repository: str
    path: str
    revision: str


@dataclass(frozen=True)
class Source(Generic[T]):
    """A file of a benchmark, and how its records are read.

    Attributes:
        folder, file: the path of the file below a data folder. Reports name ``file``.
        convert: turns a parsed record into what the benchmark works with; it raises ValueError, KeyError or TypeError
            for a record of another format.
        hub: where the hub has the same records, if it is known to have them.
        hub_convert: ``convert`` for the hub's records, where their format differs.
        parse: the text of the file to its records. Parquet files are recognised by their name.
    """

    folder: str
    file: str
    convert: Callable[[Any], T]
    hub: HubFile | None = None
    hub_convert: Callable[[Any], T] | None = None
    parse: Callable[[str], Iterable[Any]] = json_records


@dataclass(frozen=True)
class SourceRecords(Generic[T]):
    """What was read from a source.

    Attributes:
        name: the source's ``file``, or repository and path on the hub.
        sha256: of the file.
        records: converted, in the file's order; at least one.
    """

    name: str
    sha256: str
    records: list[T]


def read_source(source: Source[T], data_dir: Path | None) -> SourceRecords[T]:
    """Every record of a source, from the data folder, or from the hub if there is none.

    Raises:
        ConfigError: the file is missing, cannot be fetched, holds no records, or has a record of another format.
    """
    if data_dir is not None:
        name, path = source.file, data_dir / source.folder / source.file
        records = read_records(path, source.convert, source.parse)
    elif source.hub is not None:
        name, path = f"{source.hub.repository}/{source.hub.path}", _fetch(source.hub, f"{source.folder}/{source.file}")
        records = read_records(path, source.hub_convert or source.convert, source.parse)
    else:
        raise ConfigError(
            f"No hub repository is known for {source.folder}/{source.file}: point --data-dir at a folder that holds "
            "that file."
        )
    if not records:
        raise ConfigError(f"{path} holds no records: check that it is the benchmark's own file.")
    return SourceRecords(name, sha256_file(path), records)


def read_records(
    path: Path, convert: Callable[[Any], T], parse: Callable[[str], Iterable[Any]] = json_records
) -> list[T]:
    """Every record of a file, converted, in the file's order.

    >>> class City(Record):
    ...     name: str
    >>> _ = Path("cities.jsonl").write_text('{"name": "Oslo", "country": "Norway"}\\n')
    >>> read_records(Path("cities.jsonl"), City.model_validate)
    [City(name='Oslo')]

    Raises:
        ConfigError: the file is missing, cannot be parsed, or has a record that ``convert`` refuses. The message names
            the file, the record's number (from 0) and the field.
    """
    if not path.is_file():
        raise ConfigError(f"There is no {path}; point --data-dir at the folder with the benchmark data.")
    converted = []
    for number, record in enumerate(_parsed(path, parse)):
        try:
            converted.append(convert(record))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"Record {number} of {path} is of another format ({_problem(error)}): check that it is the benchmark's "
                "own file."
            ) from None
    return converted


def _parsed(path: Path, parse: Callable[[str], Iterable[Any]]) -> Iterable[Any]:
    if path.suffix == ".parquet":
        return _parquet_records(path)
    text = read_text(path)
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read ({error}): check that it is the benchmark's own file.") from None


def _problem(error: Exception) -> str:
    """What is wrong with a record, with the name of its field."""
    if isinstance(error, ValidationError):
        return field_problem(error)
    return shortened(f"it has no {error}" if isinstance(error, KeyError) else str(error))


def _fetch(file: HubFile, instead: str) -> Path:
    """The path of a hub file on this disk; ``instead`` is the file that a data folder can hold in its place."""
    try:
        with quiet_libraries():
            return Path(hf_hub_download(file.repository, file.path, repo_type="dataset", revision=file.revision))
    except Exception as error:  # the hub's client lets the network's errors through, and those have no common type
        raise ConfigError(
            f"{file.path} could not be fetched from the hub's {file.repository} ({reason_of(error)}): check the "
            f"network, or point --data-dir at a folder that holds {instead}."
        ) from None


def _parquet_records(path: Path) -> list[Any]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError:
        raise ConfigError(
            "The hub's Parquet files are read by datasets, which is not installed: pip install 'roselora[bench]'."
        ) from None
    try:
        records: list[Any] = parquet.read_table(path).to_pylist()
    except ArrowInvalid as error:
        raise ConfigError(
            f"{path} cannot be read ({reason_of(error)}): remove it, so that it is fetched again."
        ) from None
    return records
