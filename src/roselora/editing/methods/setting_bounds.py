"""Bounds of settings: a number of the right kind, finite and in its range, or one sentence."""

import math
from numbers import Integral, Real
from typing import Any

from roselora.errors import ConfigError
from roselora.user_files import shown

LARGEST = 2**63 - 1
"""The largest whole number that torch takes; as a bound of others it leaves room in fp32 to multiply them."""


def require_whole(settings: Any, *names: str, least: int) -> None:
    """Refuse fields that are no whole numbers from ``least`` on.

    Raises:
        ConfigError: as said.
    """
    for name in names:
        value = getattr(settings, name)
        if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= LARGEST:
            raise ConfigError(f"{name} must be a whole number and at least {least}, not {shown(value)}.")


def require_number(
    settings: Any, *names: str, least: float = -LARGEST, above: float = -math.inf, most: float = LARGEST
) -> None:
    """Refuse fields that are no numbers of at least ``least``, above ``above``, and at most ``most``.

    Raises:
        ConfigError: as said.
    """
    lower = f"above {above:g}" if math.isfinite(above) else f"at least {least:g}"
    for name in names:
        value = getattr(settings, name)
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not number or not (least <= value <= most and value > above):
            raise ConfigError(f"{name} must be a number {lower} and at most {most:g}, not {shown(value)}.")
