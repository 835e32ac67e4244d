"""Matches the layer name patterns in the config of an adapter that somebody else made."""

import time
from collections.abc import Mapping
from typing import Any

import regex  # type: ignore[import-untyped]

from roselora.errors import FileFormatError
from roselora.user_files import shown

LONGEST = 1000
"""How many characters a pattern may have."""

SECONDS = 5.0
"""How long matching may take for all of an adapter's patterns and layers together; usually it takes milliseconds."""


class Patterns:
    """Values for single layers, such as ranks, by regular expressions; the first that matches the end of a name counts.

    With a hostile expression Python's own engine, which PEFT uses, may search forever. The regex library takes a
    timeout.

    >>> Patterns({"q_proj": 4, r"layers.0..*": 2}).value_of("model.layers.0.v_proj", otherwise=8)
    2
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._deadline = time.monotonic() + SECONDS

    def value_of(self, module: str, otherwise: Any) -> Any:
        """The value for a layer, or ``otherwise`` if no pattern matches.

        Raises:
            FileFormatError: a pattern is not a regular expression, is too long, or takes too long.
        """
        return next((value for pattern, value in self._values.items() if self._matches(pattern, module)), otherwise)

    def _matches(self, pattern: str, module: str) -> bool:
        if len(pattern) > LONGEST:
            raise _refusal(pattern, f"it has {len(pattern)} characters")
        if "{" in pattern:  # nested counts multiply while the pattern is compiled, which no timeout ends
            raise _refusal(pattern, "counts in braces are not supported")
        try:
            left = max(1e-3, self._deadline - time.monotonic())
            return regex.match(rf"(.*\.)?({pattern})$", module, timeout=left) is not None
        except TimeoutError:
            raise _refusal(pattern, "it takes too long") from None
        except (regex.error, ValueError, OverflowError, RecursionError, MemoryError) as error:
            raise _refusal(pattern, str(error)) from None


def _refusal(pattern: str, reason: str) -> FileFormatError:
    return FileFormatError(f"The adapter's config holds a pattern that cannot be used: {shown(pattern)} ({reason}).")
