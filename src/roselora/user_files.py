"""Readers of the files that people write: text, JSON, JSON lines, CSV and YAML.

Whatever a file contains, reading it takes time and memory in proportion to its size, and an error is one sentence.
"""

import csv
import io
import json
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, cast

import yaml
from pydantic import ValidationError
from yaml.composer import ComposerError

from roselora.errors import ConfigError, shortened

YAML_BYTES = 1 << 18
"""The maximum size of a settings file, in characters; YAML is read about a thousand times slower than JSON."""
YAML_NODES = 20_000
"""The maximum number of values in a YAML file; a value counts again for every alias of it."""

YAML_LEVELS = 40


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with its line ends unchanged and without a byte order mark.

    Raises:
        ConfigError: the file is missing, cannot be read, or is in another encoding.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not text in UTF-8 (byte {error.start} is {error.object[error.start]:#04x}); save it as UTF-8."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror or error}).") from None
    except ValueError as error:  # a name with a NUL
        raise ConfigError(f"{str(path)!r} cannot be read ({error}).") from None


def json_value(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, nested too deeply, or contains a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    except ValueError:
        raise ValueError("it contains a number of too many digits") from None


def json_lines(text: str) -> Iterator[tuple[int, Any]]:
    """The number, from 1, and the JSON value of each line that is not blank.

    Only a line feed ends a line: JSON text may contain U+2028 and similar characters unescaped.

    Raises:
        ValueError: a line is not JSON; the message gives its number.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json_value(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None


def json_records(text: str) -> list[Any]:
    """The records of a JSON list, or of a text with one JSON value per line, whatever the name of the file.

    Raises:
        ValueError: it is neither.
    """
    return json_list(text) if text.lstrip().startswith("[") else [record for _, record in json_lines(text)]


def json_list(text: str) -> list[Any]:
    """The records of a JSON list.

    Raises:
        ValueError: the text is not a JSON list.
    """
    records = json_value(text)
    if not isinstance(records, list):
        raise ValueError("it is not a list of records")
    return records


def csv_rows(text: str) -> list[list[str]]:
    """The rows of a CSV text as lists of cells; every cell is text, also ``null``, ``None`` and ``001``.

    Raises:
        ValueError: a quotation is not closed, or text follows its end.
    """
    before = csv.field_size_limit(max(len(text), 1))  # a cell may be as long as its file
    try:
        return [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        raise ValueError(f"it is not CSV: {error}") from None
    finally:
        csv.field_size_limit(before)


def yaml_value(text: str) -> Any:
    """The value of a YAML text: strings, numbers, booleans, null, lists and mappings; dates stay strings.

    Raises:
        ValueError: it is not YAML of these types, a key is repeated, it is too large or too deep, or an alias contains
            itself.
    """
    if len(text) > YAML_BYTES:
        raise ValueError(f"it has {len(text):,} characters, and settings have at most {YAML_BYTES:,}")
    try:
        return yaml.load(text, Loader=_YamlLoader)
    except yaml.YAMLError as error:
        raise ValueError(shortened(" ".join(str(error).split()), 300)) from None
    except (ValueError, LookupError, AttributeError):  # such as `!!bool maybe`, or a number of 5000 digits
        raise ValueError("a value in it does not match its tag, or is a number of too many digits") from None


class _YamlLoader(yaml.SafeLoader):
    """Safe YAML that refuses repeated keys, of which PyYAML silently takes the last, and aliases that multiply values.

    Nodes are counted as the text is read, those of an alias at every use of it, so that merge keys, and code that walks
    through the value, are bounded too.
    """

    _MERGE = "tag:yaml.org,2002:merge"
    yaml_constructors: ClassVar = {
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
    }
    yaml_implicit_resolvers: ClassVar = {  # type: ignore[misc]
        first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in ("timestamp", "value")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._level = self._nodes = 0
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        before, mark = self._nodes, event.start_mark
        self._level += 1
        if self._level > YAML_LEVELS:
            raise ComposerError(None, None, f"it has more than {YAML_LEVELS} levels", mark)
        node = super().compose_node(parent, index)
        self._level -= 1
        if node is None:
            return None
        if isinstance(event, yaml.AliasEvent):
            if node not in self._sizes:
                raise ComposerError(None, None, f"the alias {event.anchor!r} contains itself", mark)
            self._nodes += self._sizes[node]
        else:
            self._nodes += 1 + (len(node.value) // 100 if isinstance(node, yaml.ScalarNode) else 0)
            self._sizes[node] = self._nodes - before
            if isinstance(node, yaml.MappingNode):
                self._refuse_repeated_keys(node)
        if self._nodes > YAML_NODES:
            raise ComposerError(None, None, f"it contains more than {YAML_NODES:,} values", mark)
        return node

    def _refuse_repeated_keys(self, node: yaml.MappingNode) -> None:
        seen: set[Any] = set()
        for key, _ in node.value:
            named = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) and key.tag != self._MERGE else key
            if named in seen:
                raise ComposerError(None, None, f"the key {shown(key.value)} is given twice", cast(Any, key.start_mark))
            seen.add(named)


def field_problem(error: ValidationError) -> str:
    """The first thing that is wrong with a record: its field, the field's value, and pydantic's message.

    >>> from pydantic import BaseModel
    >>> class Fact(BaseModel):
    ...     prompt: str
    >>> try:
    ...     Fact.model_validate({"prompt": 3})
    ... except ValidationError as error:
    ...     print(field_problem(error))
    its prompt is 3: Input should be a valid string
    """
    first = error.errors(include_url=False, include_context=False)[0]
    field = shortened(".".join(map(str, first["loc"])))
    if first["type"] == "missing":
        return f"it has no {field!r}"
    message = "it is not an object" if first["type"] == "model_type" else first["msg"].removeprefix("Value error, ")
    return f"{f'its {field}' if field else 'it'} is {shown(first['input'])}: {message}"


def shown(value: Any, length: int = 80) -> str:
    """A user's value for a message: as Python shows it, but shortened.

    >>> shown("a" * 200, length=12)
    "'aaaaaaaa..."
    """
    return shortened(_Shown().repr(value), length)


class _Shown(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 60, 60

    def repr_int(self, value: int, level: int) -> str:
        digits = value.bit_length() * 30103 // 100000 + 1
        return f"a number of {digits} digits" if digits > 60 else repr(value)
