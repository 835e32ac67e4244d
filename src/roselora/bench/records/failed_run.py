"""A run that could not be finished at all, which is not a result of its method."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FailedRun:
    """A run that gave no result, because of a bug or too little memory; the same command tries it again.

    Attributes:
        method: which; ``at``: what it was run on, such as a case's key or a seed.
        error: its type and the first line of its message.
    """

    method: str
    at: str
    error: str


def error_line(error: Exception) -> str:
    """An error's type and the first line of its message.

    >>> error_line(ValueError("no memory\\nhere"))
    'ValueError: no memory'
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
