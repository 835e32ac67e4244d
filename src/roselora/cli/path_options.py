"""Path options of the command line."""

from pathlib import Path
from typing import Any


def typed_path(text: str) -> Path:
    """Parse a path option. Not `Path`, which would drop the dot of ``./~``, a folder named ``~``."""
    from roselora.files import user_path

    return user_path(text)


PATH: dict[str, Any] = {"parser": typed_path, "metavar": "PATH"}
