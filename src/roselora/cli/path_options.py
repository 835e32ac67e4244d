"""How the command line takes a path."""

from pathlib import Path
from typing import Any


def typed_path(text: str) -> Path:
    """A path as it was typed, before `Path` drops the dot of ``./~``; the parser of every option that is one."""
    from roselora.files import user_path

    return user_path(text)


PATH: dict[str, Any] = {"parser": typed_path, "metavar": "PATH"}
