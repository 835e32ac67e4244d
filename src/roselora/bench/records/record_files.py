"""A run of the editing benchmark on disk: ``head.json``, and ``records.jsonl`` with one line an edit."""

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from roselora.bench.records.bench_records import EditRecord, RunHead
from roselora.bench.records.old_formats import head_of_today, record_of_today
from roselora.errors import FileFormatError
from roselora.files import flush, write_atomically

HEAD = "head.json"
RECORDS = "records.jsonl"

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def write_head(folder: Path, head: RunHead) -> Path:
    """Put the head into a run's folder, in place of the one that was there.

    Raises:
        OSError: it cannot be written; the old one is as it was.
    """
    path = folder / HEAD
    write_atomically(path, json.dumps(to_json(head), indent=2, allow_nan=False).encode() + b"\n")
    return path


def read_head(folder: Path) -> RunHead:
    """The head of a run.

    Raises:
        FileFormatError: the file does not hold one head, whole and with nothing else.
        OSError: it cannot be read.
    """
    path = folder / HEAD
    with refusing(f"{path} is not the head of an editing benchmark"):
        head: RunHead = from_json(RunHead, path.read_bytes(), head_of_today)
    return head


def read_records(folder: Path) -> list[EditRecord]:
    """The records of a run, in the order in which they were written; none if no edit has been recorded yet.

    A last line without its end was being written when the run was killed: it is left out.

    Raises:
        FileFormatError: a line does not hold one record, or repeats the case and method of an earlier one.
        OSError: the file cannot be read.
    """
    path = folder / RECORDS
    if not path.exists():
        return []
    records: dict[tuple[str, str], EditRecord] = {}
    for number, line in enumerate(whole_lines(path), start=1):
        with refusing(f"Line {number} of {path} is not a record of an edit"):
            record: EditRecord = from_json(EditRecord, line, record_of_today)
            if (record.scores is None) == (record.error is None):
                raise ValueError("it must have either scores or an error")
            if records.setdefault((record.method, record.case), record) is not record:
                raise ValueError(f"{record.method} on {record.case} stands on an earlier line already")
    return list(records.values())


@contextmanager
def appending(folder: Path) -> Iterator[Callable[[EditRecord], None]]:
    """Give the function that adds one record to a run's file, on the disk when the function returns.

    What a killed run left of a last line is cut off first. One process at a time may append.

    Raises:
        FileFormatError: what is there are not records; nothing is cut off.
        OSError: the file cannot be written; what was on it is as it was.
    """
    read_records(folder)
    with appending_lines(folder / RECORDS) as append:
        yield append


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that is appended to; one without its end was being written when a run was killed."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


@contextmanager
def appending_lines(path: Path) -> Iterator[Callable[[Any], None]]:
    """Give the function that adds one dataclass as a line of JSON, on the disk when the function returns.

    What a killed run left of a last line is cut off first. One process at a time may append.

    Raises:
        OSError: the file cannot be written; what was on it is as it was.
    """
    with open(path, "ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        os.fsync(file.fileno())
        flush(path.parent)

        def append(value: Any) -> None:
            file.write(json.dumps(to_json(value), allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

        yield append


def to_json(value: Any) -> Any:
    """A dataclass, mapping or sequence as what strict JSON can hold.

    NaN and the infinities become the texts "NaN", "Infinity" and "-Infinity"; where a number is expected, or
    anything at all (settings, capability), those texts are read as the numbers.

    Raises:
        TypeError: a value of another kind.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be written as JSON.")


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn what a file's content raises into a FileFormatError that begins with ``what``."""
    try:
        yield
    except (ValueError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"{what}: {error}; run the benchmark anew, or mend the file.") from None


def from_json(expected: type, line: bytes, today: Callable[[Any], Any] | None = None) -> Any:
    """The value of a dataclass that strict JSON holds, with every field and no other.

    Args:
        today: turns a value that an earlier version wrote into one that this version would have written.

    Raises:
        ValueError: it holds something else.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_repeats)
    return _read(expected, value if today is None else today(value), "")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a field stands twice")
    return found


def _read(expected: Any, value: Any, place: str) -> Any:
    """A JSON value as the type that a dataclass's field names."""
    origin, arguments = get_origin(expected), get_args(expected)
    if expected is Any:
        return _restored(value)
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        return _read_fields(expected, value, place)
    if origin in (Union, UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return None if value is None else _read(inner, value, place)
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(_read(arguments[0], item, f"{place}[{number}]") for number, item in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {key: _read(arguments[1], item, f"{place}[{key!r}]") for key, item in value.items()}
    if expected is float:
        if isinstance(value, str) and value in _NON_FINITE:
            return _NON_FINITE[value]
        if type(value) in (int, float):
            return float(value)
    if type(value) is expected:
        return value
    kind = expected.__name__ if isinstance(expected, type) else expected
    raise ValueError(f"{place or 'it'} is {json.dumps(value)[:60]}, which is no {kind}")


def _read_fields(expected: type, value: Any, place: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{place or 'it'} is {json.dumps(value)[:60]}, which has no fields")
    types = get_type_hints(expected)
    if missing := types.keys() - value.keys():
        raise ValueError(f"{place or 'it'} lacks {', '.join(sorted(missing))}")
    if unknown := value.keys() - types.keys():
        raise ValueError(f"{place or 'it'} has the unknown field {', '.join(sorted(unknown))}")
    return expected(**{name: _read(types[name], value[name], f"{place}.{name}".lstrip(".")) for name in types})


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _restored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_restored(item) for item in value]
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value
