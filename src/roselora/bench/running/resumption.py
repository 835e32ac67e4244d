"""Checks that a run fits the folder that it is added to, which holds an earlier part of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roselora.errors import ConfigError
from roselora.user_files import shown


def require_same_run(folder: Path, before: Any, now: Any, fields: Mapping[str, str]) -> None:
    """Refuse a folder whose head differs from the new one in one of these fields, each with its name in messages.

    Raises:
        ConfigError: it does.
    """
    for field, name in fields.items():
        if getattr(before, field) != getattr(now, field):
            held = shown(getattr(before, field))
            raise ConfigError(f"{folder} holds a run with another {name}, {held}; name another folder.")


def require_same_settings(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse a folder that holds results of a method with other settings; methods may be new.

    Raises:
        ConfigError: it does.
    """
    for method, settings in now.items():
        if before.get(method, settings) != settings:
            raise ConfigError(f"{folder} holds results of {method} with other settings; name another folder.")
