import html
import math
import re
from collections.abc import Callable

import pytest
from markdown_it import MarkdownIt

from roselora.bench.report.cells import capability_cell
from roselora.markdown import code, count, mebibytes, number, rate, seconds, text


def test_a_text_stays_in_its_cell() -> None:
    assert text("a\nb | <c>") == "a b \\| &lt;c>"


@pytest.mark.parametrize(
    "words",
    [
        "[see](http://x.example)",
        "![](http://x.example/a.png)",
        "<http://x.example>",
        "<img src=x>",
        "*a* **b** _c_ ~~d~~",
        "`a`",
        "a | b |",
        "a\\",
        "\\|",
        "&lt; &amp;",
        "snake_case and 2 * 3",
    ],
)
def test_text_in_a_cell_is_shown_as_it_stands(words: str) -> None:
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    for shown, tags in ((text(words), 0), (code(words), 1)):
        first, last = re.findall(r"<td>(.*?)</td>", page.render(f"| a | b |\n|---|---|\n| {shown} | last |"))
        assert last == "last"
        assert html.unescape(re.sub("</?code>", "", first)).strip() == words
        assert len(re.findall(r"<(?!/)", first)) == tags


def test_addresses_do_not_become_links() -> None:
    assert text("http://x.example, www.x.example, 3:1") == r"http\://x.example, www\.x.example, 3:1"


def test_control_characters_are_shown_as_escapes() -> None:
    assert text("a\x1b[2Jb\u202ec") == r"a\\x1b\[2Jb\\u202ec"
    assert code("\x1b]0;t\x07") == r"`\x1b]0;t\x07`"
    assert capability_cell("out of\nmemory") == "out of memory"


@pytest.mark.parametrize(
    ("show", "value", "shown"),
    [
        (number, None, "-"),
        (number, 0.0, "0"),
        (number, 1.3, "1.30"),
        (number, 0.0169, "0.0169"),
        (number, -0.0000918, "-0.0000918"),
        (number, 3e-9, "3.00e-09"),
        (number, 100.0, "100"),
        (number, 999.6, "1,000"),
        (number, 12345.6, "12,346"),
        (number, -math.inf, "-inf"),
        (seconds, 3.84e-05, "0.00"),
        (seconds, 0.0384, "0.04"),
        (seconds, 2.0, "2.00"),
        (seconds, 61.27, "61.3"),
        (seconds, 4321.0, "4,321"),
        (mebibytes, 0, "0"),
        (mebibytes, 1.5 * 2**20, "1.50"),
        (mebibytes, 10.4 * 2**20, "10"),
        (count, 40, "40"),
        (count, 12.5, "12.5"),
        (count, 11764900, "11,764,900"),
        (rate, -1e-17, "0.000"),
    ],
)
def test_numbers_are_shown_to_three_digits_and_costs_without_exponents(
    show: Callable[[float | None], str], value: float | None, shown: str
) -> None:
    assert show(value) == shown
