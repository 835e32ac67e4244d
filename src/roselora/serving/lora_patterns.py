"""PEFT's patterns of layers' names, of an adapter that somebody else made."""

import time
from collections.abc import Mapping
from typing import Any

import regex  # type: ignore[import-untyped]

from roselora.errors import FileFormatError
from roselora.user_files import shown

LONGEST = 1000
SECONDS = 5.0
"""For all of an adapter's patterns at all of its layers; ordinary ones take milliseconds."""


class Patterns:
    """Values that hold for single layers: by regular expressions, of which the first that matches a name's end counts.

    They are a stranger's, and Python's own engine, which PEFT uses, would search with some of them for ever.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._deadline = time.monotonic() + SECONDS

    def value_of(self, module: str, otherwise: Any) -> Any:
        """What holds for a layer, or ``otherwise`` where no pattern matches.

        Raises:
            FileFormatError: a pattern is none, is too long, or takes too long.
        """
        return next((value for pattern, value in self._values.items() if self._matches(pattern, module)), otherwise)

    def _matches(self, pattern: str, module: str) -> bool:
        if len(pattern) > LONGEST:
            raise _refusal(pattern, f"it has {len(pattern)} characters")
        if "{" in pattern:  # which multiply each other, before any time is counted
            raise _refusal(pattern, "counts in braces are not read")
        try:
            left = max(1e-3, self._deadline - time.monotonic())
            return regex.match(rf"(.*\.)?({pattern})$", module, timeout=left) is not None
        except TimeoutError:
            raise _refusal(pattern, "it takes too long") from None
        except (regex.error, ValueError, OverflowError, RecursionError, MemoryError) as error:
            raise _refusal(pattern, str(error)) from None


def _refusal(pattern: str, reason: str) -> FileFormatError:
    return FileFormatError(f"The adapter's config holds a pattern that cannot be used: {shown(pattern)} ({reason}).")
