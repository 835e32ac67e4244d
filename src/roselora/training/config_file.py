"""Config files: read together with overrides, validated, and written, with comments or without."""

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
    """The settings of a run. ``given`` overrides ``overrides``, then come the file, the preset, and the defaults.

    Args:
        path: a config file, or None.
        overrides: each ``section.key=value``, with the value in YAML.
        given: plain values by dotted key.
        preset: a name in `presets.PRESETS`, or None.

    Raises:
        ConfigError: there is no such preset, the file cannot be read, or a key or value is invalid.

    >>> settings = read_settings(None, ["adapter.rank=4"], {"model": "demo", "data.train": "data.jsonl"})
    >>> settings.adapter.rank, settings.adapter.density
    (4, 0.05)
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
    """A config file with every key, its default and its meaning; only model and data have to be adapted."""
    lines = [
        "# A training run of `roselora train`. Keys that are left out have the values that stand here.",
        *_section_lines(TrainSettings, indent="", examples={"model": "demo", "data.train": "data.jsonl"}, prefix=""),
    ]
    return "\n".join(lines) + "\n"


def as_yaml(settings: TrainSettings) -> str:
    """The complete settings of a run, as a config file that repeats it."""
    values = settings.model_dump()
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    # Characters that hide or reorder text are escaped; YAML can do that only together with all that is not ASCII.
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
    """The first problem, in one sentence that names the key and, for an unknown key, the one that was meant."""
    details = error.errors(include_url=False, include_context=False)
    first = details[0]
    if first["type"] in ("extra_forbidden", "invalid_key"):
        # A key that is not text, such as 1, is an unknown key too.
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
    """Whether this step of an error's location is not a key but a member of a union that pydantic tried."""
    return part in ("int", "float") or part.startswith(("literal[", "list[", "constrained-", "function-"))


PEFT_NAMES = {"r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout"}
"""What PEFT calls our settings."""


def _suggestion(location: tuple[int | str, ...]) -> str:
    """The key that the user may have meant: one of the same section, or the same key of another section."""
    known, name = list(_keys(TrainSettings, "")), str(location[-1])
    prefix = "".join(f"{section}." for section in location[:-1])
    here = list(dict.fromkeys(key.removeprefix(prefix).split(".")[0] for key in known if key.startswith(prefix)))
    elsewhere = [key for key in known if key.rpartition(".")[2] == PEFT_NAMES.get(name, name)]
    meant = difflib.get_close_matches(name, here, n=1) or elsewhere
    return f"; did you mean {meant[0]}" if meant else f"; known here are {', '.join(here)}"


def _keys(section: type[BaseModel], prefix: str) -> Iterator[str]:
    """All settings by their dotted keys."""
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
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        value = examples.get(f"{prefix}{name}", default)
        # Text as it stands; all else as JSON, which YAML reads too.
        lines.append(f"{indent}{name}: {value if isinstance(value, str) else json.dumps(value)}  # {field.description}")
    return lines
