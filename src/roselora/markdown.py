"""Markdown for reports: escaped text, numbers, intervals and tables."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from roselora.escaping import visible

NOTHING = "-"
MIB = 2**20
WHOLE_FROM = 999.5
"""From here on, three significant digits would round to 1000."""

Show = Callable[[float], str]


def text(value: Any) -> str:
    """Any text for one line or one cell of a table, escaped so that none of it is Markdown, HTML or a link.

    >>> print(text("a|b *c*"))
    a\\|b \\*c\\*
    """
    return _MARKDOWN.sub(lambda found: _HTML.get(found[0]) or f"\\{found[0]}", _one_line(value))


_HTML = {"<": "&lt;", "&": "&amp;"}
_MARKDOWN = re.compile(
    r"[<&\\`*\[\]|~$]"
    r"|(?<!\w)_|_(?!\w)"  # within a word it is an ordinary character
    r"|(?<=\w):(?=//)|(?<=www)\."  # GitHub turns these into links
)


def code(value: Any) -> str:
    """Any text as a code span, for one line or one cell of a table."""
    shown = _one_line(value).replace("|", "\\|")
    fence = "`" * (1 + longest_run(shown, "`"))
    return f"{fence} {shown} {fence}" if "`" in (shown[:1], shown[-1:]) else f"{fence}{shown}{fence}"


def block(value: str, language: str) -> str:
    """Lines as a code block."""
    fence = "`" * max(3, 1 + longest_run(value, "`"))
    return f"{fence}{language}\n{value.rstrip()}\n{fence}"


def longest_run(value: str, character: str) -> int:
    """The length of the longest run of a character."""
    return max((len(run) for run in re.findall(f"{re.escape(character)}+", value)), default=0)


def _one_line(value: Any) -> str:
    return visible(" ".join(str(value).split()))


def number(value: float | None) -> str:
    """Three significant digits with trailing zeros; whole from 1000 on, and with an exponent below a millionth.

    >>> number(0.5), number(12345.6), number(None)
    ('0.500', '12,346', '-')
    """
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{value}"
    if value == 0:
        return "0"
    if 1e-6 <= abs(value) < 1e-4:  # where "g" would go over to exponents
        return f"{value:.{2 - math.floor(math.log10(abs(value)))}f}"
    return f"{value:,.0f}" if abs(value) >= WHOLE_FROM else f"{value:#.3g}".removesuffix(".")


def seconds(value: float) -> str:
    """Three significant digits, but at most two decimals: "0.00" is almost no time."""
    return f"{value:.2f}" if 0 < value < 1 else number(value)


def mebibytes(value: float) -> str:
    """Bytes in MiB: like :func:`seconds` below 10, and whole from there on."""
    shown = value / MIB
    return f"{shown:,.0f}" if shown >= 10 else seconds(shown)


def count(value: float) -> str:
    """A count, with decimals only if it is not whole, as a median may be."""
    return f"{value:,.0f}" if value == int(value) else number(value)


def rate(value: float) -> str:
    """A rate between 0 and 1, or a difference of two rates."""
    return f"{value:z.3f}"


def bounds(low: float | None, high: float | None, show: Show = rate) -> str:
    """An interval, or "[no interval]"."""
    return "[no interval]" if low is None or high is None else f"[{show(low)}, {show(high)}]"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; each cell must be one line."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
