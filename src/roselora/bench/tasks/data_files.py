"""Read a benchmark's file from a data folder: parse it, and convert its records one by one."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from roselora.errors import ConfigError, shortened
from roselora.user_files import read_text


def read_data_file(path: Path, parse: Callable[[str], Iterable[Any]], convert: Callable[[Any], Any]) -> list[Any]:
    """A file's records, each converted, in the file's order.

    Args:
        parse: such as `plain_files.json_records` or `plain_files.csv_rows`.
        convert: a record of another format is a KeyError, TypeError, ValueError or AttributeError in it.

    Raises:
        ConfigError: the file is not there, cannot be parsed, or a record cannot be converted; the message names the
            file and the record's number, counted from 0.
    """
    if not path.exists():
        raise ConfigError(f"There is no {path}; point --data-dir at the folder with the benchmark data.")
    text = read_text(path)
    try:
        records = parse(text)
    except ValueError as error:
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
                f"Record {number} of {source} is of another format ({shortened(repr(error))}): see that it is the "
                "benchmark's own file."
            ) from None
    return converted
