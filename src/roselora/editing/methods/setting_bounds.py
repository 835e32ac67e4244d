"""Settings whose numbers declare their bounds beside their defaults, and are checked when the settings are made."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, TypeVar

from roselora.errors import ConfigError
from roselora.user_files import shown

LARGEST = 2**63 - 1
"""The largest whole number that torch takes; as a bound of other numbers it leaves room in fp32 to multiply them."""

_Whole = TypeVar("_Whole", int, int | None)
_Number = TypeVar("_Number", float, float | None)


def whole(default: _Whole, *, least: int = 0) -> _Whole:
    """A field of :class:`BoundedSettings` that takes whole numbers from ``least`` on, and None if that is its default.

    A subclass that changes the default repeats the bounds.
    """
    found: _Whole = field(default=default, metadata={"check": _whole_check(least)})
    return found


def number(default: _Number, *, least: float = -LARGEST, above: float = -math.inf, most: float = LARGEST) -> _Number:
    """A field of :class:`BoundedSettings` that takes numbers in a range, and None if that is its default."""
    found: _Number = field(default=default, metadata={"check": _number_check(least, above, most)})
    return found


@dataclass(frozen=True)
class BoundedSettings:
    """A base of settings classes: a value outside the bounds of its field raises one sentence that names both.

    >>> @dataclass(frozen=True)
    ... class Settings(BoundedSettings):
    ...     rank: int = whole(8, least=1)
    ...     density: float = number(0.05, above=0, most=1)
    >>> Settings(rank=4).rank
    4
    >>> Settings(density=2.0)
    Traceback (most recent call last):
    roselora.errors.ConfigError: density must be a number above 0 and at most 1, not 2.0.
    """

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if "check" in entry.metadata and not (value is None and entry.default is None):
                entry.metadata["check"](entry.name, value)


def _whole_check(least: int) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= LARGEST:
            raise ConfigError(f"{name} must be a whole number and at least {least}, not {shown(value)}.")

    return check


def _number_check(least: float, above: float, most: float) -> Callable[[str, Any], None]:
    lower = f"above {above:g}" if math.isfinite(above) else f"at least {least:g}"

    def check(name: str, value: Any) -> None:
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not is_number or not (least <= value <= most and value > above):
            raise ConfigError(f"{name} must be a number {lower} and at most {most:g}, not {shown(value)}.")

    return check
