"""Read a benchmark's file from a data folder: parse it, and convert its records one by one."""

import csv
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from roselora.errors import ConfigError


def read_data_file(path: Path, parse: Callable[[str], Iterable[Any]], convert: Callable[[Any], Any]) -> list[Any]:
    """A file's records, each converted, in the file's order.

    Args:
        parse: such as :func:`json_records` or :func:`csv_rows`.
        convert: a record of another format is a KeyError, TypeError, ValueError or AttributeError in it.

    Raises:
        ConfigError: the file is not there, cannot be parsed, or a record cannot be converted; the message names the
            file and the record's number, counted from 0.
    """
    try:
        records = parse(path.read_text(encoding="utf-8"))
    except OSError:
        raise ConfigError(f"There is no {path}; point --data-dir at the folder with the benchmark data.") from None
    except (ValueError, RecursionError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read ({error}): see that it is the benchmark's own file.") from None
    return convert_records(records, convert, str(path))


def convert_records(records: Iterable[Any], convert: Callable[[Any], Any], source: str) -> list[Any]:
    """Every record of ``source``, converted.

    Raises:
        ConfigError: a record cannot be converted, as :func:`read_data_file` says.
    """
    converted = []
    for number, record in enumerate(records):
        try:
            converted.append(convert(record))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"Record {number} of {source} is of another format ({error!r}): see that it is the benchmark's own "
                "file."
            ) from None
    return converted


def json_list(text: str) -> list[Any]:
    """The records of one JSON list.

    Raises:
        ValueError: the text is something else.
    """
    records = json.loads(text)
    if not isinstance(records, list):
        raise ValueError("no list of records")
    return records


def json_lines(text: str) -> list[Any]:
    """The records of a text with one JSON value a line; blank lines do not count.

    Raises:
        ValueError: a line is no JSON; the message gives the record's number, counted from 0.
    """
    records: list[Any] = []
    for line in filter(str.strip, text.split("\n")):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"record {len(records)}: {error}") from None
    return records


def json_records(text: str) -> list[Any]:
    """The records of one JSON list, or of a text with one JSON value a line, whatever the file is called.

    Raises:
        ValueError: as :func:`json_lines`.
    """
    return json_list(text) if text.lstrip().startswith("[") else json_lines(text)


def csv_rows(text: str) -> list[Any]:
    """The rows of a CSV text, each a list of its cells."""
    return list(csv.reader(io.StringIO(text, newline="")))
