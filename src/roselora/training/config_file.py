"""A config file: read with its overrides, checked, and written with its comments."""

import difflib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from roselora.errors import ConfigError, shortened
from roselora.escaping import CONTROLS
from roselora.files import user_path
from roselora.training.presets import preset_values
from roselora.training.train_settings import TrainSettings
from roselora.user_files import read_text, shown, yaml_value


def read_settings(
    path: str | os.PathLike[str] | None,
    overrides: Sequence[str] = (),
    given: Mapping[str, str] | None = None,
    preset: str | None = None,
) -> TrainSettings:
    """Defaults, then the preset's values, then the file's, then the overrides, then what was given.

    Args:
        path: a config file, or None.
        overrides: each ``section.key=value`` with a value in YAML.
        given: plain values by key, with its section.
        preset: one of `presets.PRESETS` by name, or None.

    Raises:
        ConfigError: there is no such preset, the file cannot be read, or a key or value is not one that a run has.
    """
    values = {} if preset is None else preset_values(preset)
    for key, value in ({} if path is None else _read_yaml(user_path(path))).items():
        below = values.get(key)
        values[key] = {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
    for override in overrides:
        _override(values, override)
    for key, value in (given or {}).items():
        _put(values, key, value)
    try:
        return TrainSettings.model_validate(values)
    except ValidationError as error:
        source = "the settings" if path is None else str(path)
        raise ConfigError(f"{source}: {_first_sentence(error)}") from None


def commented_config() -> str:
    """A config file with every key, its default and its meaning; it runs as it stands but for model and data."""
    lines = [
        "# A training run of `roselora train`. Keys that are left out have the values that stand here.",
        *_section_lines(TrainSettings, indent="", examples={"model": "demo", "data.train": "data.jsonl"}, prefix=""),
    ]
    return "\n".join(lines) + "\n"


def as_yaml(settings: TrainSettings) -> str:
    """The settings of a run, complete, as a config file that repeats it."""
    values = settings.model_dump()
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    # What turns or hides text becomes an escape, and with it all that is not ASCII: YAML has no other choice.
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=False) if CONTROLS.search(text) else text


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ConfigError(f"{path} cannot be read (there is no such file); `roselora train --init` writes one.")
    text = read_text(path)
    try:
        values = yaml_value(text)
    except ValueError as error:
        raise ConfigError(f"{path} is not a config file in YAML: {error}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no keys and values; `roselora train --init` writes a file that does.")
    return values


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{shown(override)} is not of the form key=value, such as training.learning_rate=1e-3.")
    try:
        value = yaml_value(text)
    except ValueError:
        value = text
    _put(values, key, value)


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    place = values
    for section in sections:
        inner = place.setdefault(section, {})
        if not isinstance(inner, dict):
            inner = place[section] = {}
        place = inner
    place[name] = value


def _first_sentence(error: ValidationError) -> str:
    """The first of the things that are wrong, in one sentence that names the key and the way out."""
    details = error.errors(include_url=False, include_context=False)
    first = details[0]
    if first["type"] in ("extra_forbidden", "invalid_key"):
        # A key that is no text is told as the unknown key that it is.
        location = first["loc"] if first["type"] == "extra_forbidden" else first["loc"][:-1]
        problem = f"unknown key {shortened('.'.join(map(str, location)), 80)}{_suggestion(location)}"
    else:
        where = shortened(".".join(str(part) for part in first["loc"] if not _is_union_branch(str(part))), 80)
        message = first["msg"].removeprefix("Value error, ").removesuffix(".")
        message = message[:1].lower() + message[1:]
        if first["type"] == "missing":
            problem = f"{where} is missing; it must be given"
        else:
            problem = f"{where} = {shown(first['input'])}: {message}" if where else message
    more = len({detail["loc"][:2] for detail in details}) - 1
    return f"{problem}{f' (and {more} more)' if more else ''}."


def _is_union_branch(part: str) -> bool:
    """Whether pydantic, not the user, named this step of a path: the member of a union that was tried."""
    return part in ("int", "float") or part.startswith(("literal[", "list[", "constrained-", "function-"))


def _suggestion(location: tuple[int | str, ...]) -> str:
    """What the user may have meant: a key of that section, or the same key of another one."""
    name, here = str(location[-1]), _fields_at(location[:-1])
    elsewhere = [key for key in _keys(TrainSettings, "") if key.rpartition(".")[2] == name]
    meant = difflib.get_close_matches(name, here, n=1) or elsewhere
    return f"; did you mean {meant[0]}" if meant else f"; known here are {', '.join(here)}"


def _fields_at(location: Sequence[int | str]) -> list[str]:
    section: type[BaseModel] = TrainSettings
    for part in location:
        inner = section.model_fields[str(part)].annotation
        assert isinstance(inner, type)
        assert issubclass(inner, BaseModel)
        section = inner
    return list(section.model_fields)


def _keys(section: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _section_lines(section: type[BaseModel], indent: str, examples: Mapping[str, str], prefix: str) -> list[str]:
    lines: list[str] = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            lines += ["", f"{indent}# {kind.__doc__}", f"{indent}{name}:"]
            lines += _section_lines(kind, f"{indent}  ", examples, f"{prefix}{name}.")
            continue
        value = examples.get(
            f"{prefix}{name}", None if field.is_required() else field.get_default(call_default_factory=True)
        )
        lines.append(f"{indent}{name}: {_scalar(value)}  # {field.description}")
    return lines


def _scalar(value: Any) -> str:
    """A value on one line, as YAML and JSON both write it."""
    return value if isinstance(value, str) else json.dumps(value)
