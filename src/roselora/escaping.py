"""Text that is not ours, with what steers a terminal or hides in a page as escapes."""

import re

CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, and C1: ESC, CSI, OSC among them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of text
    "\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # breaks lines, or is not seen
    "\ud800-\udfff]"  # surrogates: bytes of a path that are no text
)


WITHIN_A_LINE = re.compile(rf"[\t\n]|{CONTROLS.pattern}")


def visible(text: str) -> str:
    """Text with its control characters as escapes, such as ``\\x1b`` and ``\\n``: it cannot leave the line it is in."""
    return WITHIN_A_LINE.sub(escape, text)


def escape(found: re.Match[str]) -> str:
    """The escape of what was found, as in a Python string."""
    return found[0].encode("unicode_escape").decode("ascii")
