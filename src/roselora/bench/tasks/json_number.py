"""Numbers in JSON that may be NaN or infinite, which JSON itself cannot represent."""

import math
from typing import Annotated, Any

from pydantic import BeforeValidator

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def restored_number(value: Any) -> Any:
    """The number that one of the texts "NaN", "Infinity" and "-Infinity" stands for; any other value as it is.

    >>> restored_number("-Infinity"), restored_number("rose")
    (-inf, 'rose')
    """
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value


Number = Annotated[float, BeforeValidator(restored_number)]
"""A field of a dataclass that pydantic reads from JSON, where it is a number or one of these texts."""
