"""How every benchmark keeps a run on disk: ``head.json`` says what was run, JSON Lines hold the results.

Lines are only ever appended, each flushed to the disk, so that a killed run loses at most the line that it was writing.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, TypeVar

import pydantic_core
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from roselora.bench.tasks.json_number import restored_number
from roselora.errors import FileFormatError
from roselora.files import flush, write_atomically

HEAD = "head.json"

BASE = "base"
"""The name of the unchanged model among the methods."""

Head = TypeVar("Head")


class RecordClass(Protocol):
    """A dataclass whose instances are the lines of one file of a run's folder."""

    FILE: ClassVar[str]


Record = TypeVar("Record", bound=RecordClass)


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _restored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_restored(item) for item in value]
    return restored_number(value)


Setting = Annotated[Any, BeforeValidator(_restored)]
"""Any JSON value, in which the texts that stand for NaN and the infinities are read as these numbers."""


def as_json(value: Any) -> Any:
    """Dataclasses, mappings and sequences as the dictionaries and lists of strict JSON.

    NaN and the infinities, which JSON cannot represent, become the texts "NaN", "Infinity" and "-Infinity"; bytes of a
    path that are not text become escapes.

    Raises:
        ValueError: a value of a type that JSON cannot hold.

    >>> as_json({"norm": float("inf"), "layers": (1, 2), "output": "out\\udcff"})
    {'norm': 'Infinity', 'layers': [1, 2], 'output': 'out\\\\udcff'}
    """
    encodable = _encodable(pydantic_core.to_jsonable_python(value))
    return json.loads(pydantic_core.to_json(encodable, inf_nan_mode="strings"))


def _encodable(value: Any) -> Any:
    """A JSON value with escapes for surrogates, which `os.fsdecode` puts for such bytes and UTF-8 does not have."""
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def write_head(folder: Path, head: Any) -> None:
    """Replace a run's head; an OSError leaves the old one."""
    write_atomically(folder / HEAD, json.dumps(as_json(head), indent=2).encode() + b"\n")


def read_head(folder: Path, kind: type[Head]) -> Head:
    """The head of a run.

    Raises:
        FileFormatError: the file does not hold a head of this kind.
        OSError: it cannot be read.
    """
    path = folder / HEAD
    return _parsed(TypeAdapter(kind), path.read_bytes(), f"{path} is not a valid {kind.__name__}")


def read_records(folder: Path, kind: type[Record]) -> list[Record]:
    """A run's records of one kind, in the order in which they were written; none without a file.

    A last line without its end was being written when the run was killed: it is left out.

    Raises:
        FileFormatError: a line is not a record of this kind.
        OSError: the file cannot be read.
    """
    path, adapter = folder / kind.FILE, TypeAdapter(kind)
    if not path.exists():
        return []
    return [
        _parsed(adapter, line, f"Line {number} of {path} is not a valid {kind.__name__}")
        for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1)
    ]


@contextmanager
def appending(folder: Path, kind: type[Record]) -> Iterator[Callable[[Record], None]]:
    """Give the function that adds a record to its file; the record is on the disk when the function returns.

    What a killed run left of a last line is cut off first. One process at a time may append.

    Raises:
        FileFormatError: the file holds something else; nothing is cut off.
        OSError: the file cannot be written.
    """
    read_records(folder, kind)
    with open(folder / kind.FILE, "ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        os.fsync(file.fileno())
        flush(folder)

        def append(record: Record) -> None:
            file.write(json.dumps(as_json(record)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

        yield append


def _parsed(adapter: "TypeAdapter[Head]", text: bytes, refusal: str) -> Head:
    """The value of a JSON text, with every field of its dataclass and no other."""
    try:
        # Python's parser refuses NaN and repeated fields, which pydantic's lets pass; only pydantic's takes a list for
        # a tuple and yet no "1" for a 1.
        value = json.loads(text.decode(), parse_constant=_no_constant, object_pairs_hook=_no_repeats)
        return adapter.validate_json(json.dumps(_encodable(value)), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"{where}: {first['msg']}" if where else first["msg"]
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    except (ValueError, RecursionError) as error:
        reason = str(error)
    raise FileFormatError(f"{refusal} ({reason}); repair the file, or run the benchmark in another folder.")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a field is given twice")
    return found
