"""Escapes for foreign text, which may contain characters that control a terminal or are invisible."""

import re

CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and newline, and C1, such as ESC, CSI and OSC
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that change the direction of text
    "\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # line breaks, invisible ones
    "\ud800-\udfff]"  # surrogates: bytes of a path that are not text
)


WITHIN_A_LINE = re.compile(rf"[\t\n]|{CONTROLS.pattern}")


def visible(text: str) -> str:
    """Text with escapes for its control characters, so that it cannot leave its line.

    >>> print(visible("red\\x1b[31m"))
    red\\x1b[31m
    """
    return WITHIN_A_LINE.sub(escape, text)


def escape(found: re.Match[str]) -> str:
    """The escape of the character that was found, as in a Python string."""
    return found[0].encode("unicode_escape").decode("ascii")
