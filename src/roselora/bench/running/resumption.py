"""What must be the same when a run is added to a folder that holds an earlier part of it."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from roselora.errors import ConfigError


def require_same_run(folder: Path, before: Any, now: Any, fields: Collection[str]) -> None:
    """Refuse a folder whose head differs from the new one in some of these fields.

    Raises:
        ConfigError: it does.
    """
    for field in fields:
        if getattr(before, field) != getattr(now, field):
            name = field.removesuffix("_sha256").replace("_", " ")
            raise ConfigError(f"{folder} holds a run with another {name}; name another folder.")


def require_same_settings(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse a folder that holds results of a method with other settings; methods may be new.

    Raises:
        ConfigError: it does.
    """
    for method, settings in now.items():
        if before.get(method, settings) != settings:
            raise ConfigError(f"{folder} holds results of {method} with other settings; name another folder.")
