"""The methods of a run by name, with the settings that the user gives them."""

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
        file: YAML or JSON, whose mapping ``settings`` (or the whole file) gives by method the fields to set; methods
            that are not run are ignored.
        overrides: each ``METHOD.FIELD=VALUE`` with a value in YAML.

    Raises:
        ConfigError: a name, field or value that no method has.
    """
    if covariance_text is not None and not covariance_text.is_file():
        raise ConfigError(f"There is no text file {covariance_text} for the covariances.")
    given: dict[str, dict[str, Any]] = {}
    for name in names:
        if name not in METHODS:
            today = f" {name!r} is called {RENAMED[name]} now;" if name in RENAMED else ""
            raise ConfigError(f"There is no method {name!r};{today} the methods are {', '.join(METHODS)}.")
        common = {"seed": seed} | ({} if covariance_text is None else {"text": covariance_text})
        fields = _fields(METHODS[name])
        given[name] = {field: value for field, value in common.items() if field in fields}
    for name, fields in {} if file is None else _read(file).items():
        if name in given:
            given[name] |= fields
    for override in overrides:
        name, field, value = _parsed(override)
        if name not in given:
            raise ConfigError(
                f"--set {override} is for a method that is not part of this run; it runs {', '.join(given)}."
            )
        given[name][field] = value
    return {name: with_settings(name, METHODS[name], values) for name, values in given.items()}


def with_settings(name: str, method: Method, values: Mapping[str, Any]) -> Method:
    """The method with some fields of its config replaced, checked and converted to their types.

    Raises:
        ConfigError: a field or value that the config does not take.
    """
    before = _fields(method)
    if unknown := [field for field in values if field not in before]:
        raise ConfigError(f"{name} has no setting {unknown[0]!r}; it has {', '.join(before)}.")
    try:
        config = TypeAdapter(type(method.config)).validate_python({**before, **values})
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join([name, *map(str, first["loc"][:1])])
        raise ConfigError(f"{where}: {first['msg'].removeprefix('Value error, ').rstrip('.')}.") from None
    return dataclasses.replace(method, config=config)


def as_plain(config: Any) -> dict[str, Any]:
    """A config as JSON values; a file by its name and hash, since its folder differs between machines."""
    return {field: _plain_value(value) for field, value in dataclasses.asdict(config).items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Path):
        return {"name": value.name, "sha256": sha256_file(value)} if value.is_file() else value.name
    return list(value) if isinstance(value, tuple) else value


def _fields(method: Method) -> dict[str, Any]:
    return {field.name: getattr(method.config, field.name) for field in dataclasses.fields(method.config)}


def _read(file: Path) -> dict[str, dict[str, Any]]:
    text = read_text(file)
    try:
        document = yaml_value(text)
        table = {name: dict(fields) for name, fields in document.get("settings", document).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file} is not a file of settings, METHOD: {{FIELD: VALUE}}, in YAML or JSON.") from error
    if unknown := [name for name in table if name not in METHODS]:
        raise ConfigError(
            f"{file} has settings of {unknown[0]!r}, which is not a method; the methods are {', '.join(METHODS)}."
        )
    return table


def _parsed(override: str) -> tuple[str, str, Any]:
    key, equals, text = override.partition("=")
    name, dot, field = key.partition(".")
    if not (equals and dot and name and field):
        raise ConfigError(f"--set {override!r} is not of the form METHOD.FIELD=VALUE, such as ft-m.steps=10.")
    try:
        return name, field, yaml_value(text)
    except ValueError:
        return name, field, text
