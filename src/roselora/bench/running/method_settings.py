"""The methods of a run by name, with what the user sets of their configs."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from roselora.bench.methods.edit_method import Method
from roselora.bench.methods.editing_methods import METHODS
from roselora.bench.records.edit_bench_records import RENAMED
from roselora.errors import ConfigError
from roselora.files import sha256_file
from roselora.user_files import read_text, yaml_value


def configured(
    names: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    file: Path | None = None,
    seed: int = 0,
    covariance_text: Path | None = None,
) -> dict[str, Method]:
    """The named methods, in that order: defaults, then seed and text, then the file's settings, then the overrides.

    Args:
        file: YAML or JSON, of which the mapping ``settings`` (or the whole) holds by method the fields to set;
            methods that are not run are passed over.
        overrides: each ``METHOD.FIELD=VALUE`` with a value in YAML.

    Raises:
        ConfigError: a name, field or value that no method has.
    """
    if covariance_text is not None and not covariance_text.is_file():
        raise ConfigError(f"There is no text file {covariance_text} for the covariances.")
    given: dict[str, dict[str, Any]] = {name: {} for name in names}
    for name in names:
        if name not in METHODS:
            today = f" {name!r} is called {RENAMED[name]} now;" if name in RENAMED else ""
            raise ConfigError(f"There is no method {name!r};{today} there are {', '.join(METHODS)}.")
        fields = _fields(METHODS[name].config)
        given[name] |= {"seed": seed} if "seed" in fields else {}
        given[name] |= {"text": covariance_text} if "text" in fields and covariance_text is not None else {}
    settings = [] if file is None else [entry for entry in _read(file) if entry[0] in given]
    for override in overrides:
        settings.append(_parse(override))
        if settings[-1][0] not in given:
            raise ConfigError(f"--set {override} is for a method that is not run; run are {', '.join(given)}.")
    for name, field, value in settings:
        if field not in _fields(METHODS[name].config):
            raise ConfigError(f"{name} has no setting {field!r}; it has {', '.join(_fields(METHODS[name].config))}.")
        given[name][field] = value
    return {name: with_settings(name, METHODS[name], values) for name, values in given.items()}


def with_settings(name: str, method: Method, values: Mapping[str, Any]) -> Method:
    """The method with some fields of its config replaced, checked and converted to their types.

    Raises:
        ConfigError: a value that the config refuses.
    """
    kind = type(method.config)
    before = {field: getattr(method.config, field) for field in _fields(method.config)}
    try:
        config = TypeAdapter(kind).validate_python(before | dict(values))
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"][:1])
        message = first["msg"].removeprefix("Value error, ").rstrip(".")
        raise ConfigError(f"{name}{f'.{where}' if where else ''}: {message}.") from None
    return dataclasses.replace(method, config=config)


def as_plain(config: Any) -> dict[str, Any]:
    """A config as JSON gives it back; of a file its name and hash, for where it lies is another machine's matter."""
    return {field: _plain_value(value) for field, value in dataclasses.asdict(config).items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Path):
        return {"name": value.name, "sha256": sha256_file(value)} if value.is_file() else value.name
    return list(value) if isinstance(value, tuple) else value


def _fields(config: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(config)]


def _read(file: Path) -> list[tuple[str, str, Any]]:
    text = read_text(file)
    try:
        document = yaml_value(text)
        table = document.get("settings", document)
        entries = [(name, field, value) for name, fields in table.items() for field, value in fields.items()]
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{file} is not a file of settings, METHOD: {{FIELD: VALUE}}, in YAML or JSON.") from error
    unknown = [name for name, _, _ in entries if name not in METHODS]
    if unknown:
        raise ConfigError(f"{file} has settings of {unknown[0]!r}; there are {', '.join(METHODS)}.")
    return entries


def _parse(override: str) -> tuple[str, str, Any]:
    key, equals, text = override.partition("=")
    name, dot, field = key.partition(".")
    if not (equals and dot and name and field):
        raise ConfigError(f"--set {override!r} is not of the form METHOD.FIELD=VALUE, such as ft-m.steps=10.")
    try:
        return name, field, yaml_value(text)
    except ValueError:
        return name, field, text
