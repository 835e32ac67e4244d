"""What people write is read as it stands, within bounds, or refused in a sentence."""

import time
from pathlib import Path

import pytest

from roselora.errors import ConfigError
from roselora.user_files import csv_rows, json_lines, json_records, read_text, shown, yaml_value


def test_a_byte_order_mark_is_no_text_and_line_ends_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbfone\r\ntwo\xe2\x80\xa8")
    assert read_text(tmp_path / "marked") == "one\r\ntwo\u2028"


@pytest.mark.parametrize(("data", "message"), [(b"caf\xe9", "byte 3 is 0xe9"), (None, "No such file")])
def test_what_is_no_text_is_refused_by_its_name(tmp_path: Path, data: bytes | None, message: str) -> None:
    if data is not None:
        (tmp_path / "file").write_bytes(data)
    with pytest.raises(ConfigError, match=f"file .*{message}"):
        read_text(tmp_path / "file")


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_a_line_of_json_ends_with_a_line_feed_alone(separator: str) -> None:
    # U+2028 to U+0085 may stand unescaped in JSON; below U+0020 JSON wants an escape, and the line is still one.
    if separator > " ":
        assert list(json_lines(f'{{"a": "b{separator}c"}}\r\n\n3')) == [(1, {"a": f"b{separator}c"}), (3, 3)]
    else:
        with pytest.raises(ValueError, match="line 1: it is not JSON: Invalid control character"):
            list(json_lines(f'{{"a": "b{separator}c"}}'))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "line 1: it is nested too deeply"),
        (f'{{"a": {"9" * 5000}}}', "a number of too many digits"),
        ("[1, 2", "not JSON"),
        ('{"a": 1}\n{"a"', "line 2: it is not JSON"),
    ],
)
def test_json_that_cannot_be_read_is_a_value_error_in_our_words(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        json_records(text)


def test_cells_of_csv_are_text_as_it_stands_however_long() -> None:
    long = "x" * 200_000
    assert csv_rows(f'a,b\r\nnull,001\n"one\r\n""two""",{long}\n\n') == [
        ["a", "b"],
        ["null", "001"],
        ['one\r\n"two"', long],
    ]


@pytest.mark.parametrize("text", ['a\n"open\nx\n', 'a\n"one" two\n'])
def test_a_quotation_that_does_not_end_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not CSV"):
        csv_rows(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("base: &b {r: 4, s: 1}\nmine: {<<: *b, s: 2}\n", {"base": {"r": 4, "s": 1}, "mine": {"r": 4, "s": 2}}),
        ("a: &a {x: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: [*b], y: 3}", None),
        ("day: 2024-01-31\nbad: 2024-02-99\nend: =", {"day": "2024-01-31", "bad": "2024-02-99", "end": "="}),
        ("\ufeffa: [1, 2.5, yes, ~, '1']", {"a": [1, 2.5, True, None, "1"]}),
    ],
)
def test_yaml_has_merge_keys_and_leaves_dates_as_text(text: str, value: object) -> None:
    read = yaml_value(text)
    assert value is None or read == value
    assert value is not None or read["c"] == {"x": 2, "y": 3}


def aliases(levels: int, merged: bool = False) -> str:
    """Each level holds the one below nine times over."""
    lines = ["l0: &l0 {k: v}" if merged else "l0: &l0 [v, v, v]"]
    for level in range(1, levels):
        below = ", ".join([f"*l{level - 1}"] * 9)
        lines.append(f"l{level}: &l{level} " + (f"{{<<: [{below}]}}" if merged else f"[{below}]"))
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (aliases(12), "more than 20,000 values"),
        (aliases(12, merged=True), "more than 20,000 values"),
        (f"long: &l {'x' * 100_000}\nmany: [{', '.join(['*l'] * 1000)}]", "more than 20,000 values"),
        ("a: &a [*a]", "the alias 'a' contains itself"),
        ("[" * 5000, "more than 40 levels"),
        ("- " * 5000, "more than 40 levels"),
        ("\n".join(f"k{n}: 1" for n in range(20_000)), "more than 20,000 values"),
        ("x" * 300_000, "300,000 characters"),
        (f"seed: {'7' * 5000}", "too many digits"),
        ("a: !!bool maybe", "does not match its tag"),
        ("a: !!int x", "does not match its tag"),
        ("a: !!int", "does not match its tag"),
        ("a: !!timestamp x", "could not determine a constructor"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        (f"a: !{'t' * 5000} x", "could not determine a constructor"),
        ("a: 1\na: 2", "the key 'a' is given twice"),
        ("? [a]\n: 1", "unhashable key"),
        ("a: *b", "undefined alias"),
        ("a: \x1b", "not allowed"),
        ("---\na\n---\nb", "expected a single document"),
    ],
    ids=range(20),
)
def test_yaml_that_explodes_or_says_nothing_is_refused_soon_and_in_few_words(text: str, message: str) -> None:
    start = time.process_time()
    with pytest.raises(ValueError, match=message) as caught:
        yaml_value(text)
    assert len(str(caught.value)) < 400
    assert time.process_time() - start < 20  # not minutes; what is left of the bound is for a slow machine


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("demo", "'demo'"),
        (0.5, "0.5"),
        ([1, "a", None], "[1, 'a', None]"),
        (10**5000, "a number of 5001 digits"),
        ("a" * 1000, None),
        ([["a" * 1000] * 1000] * 1000, None),
        ({"k" * 1000: {"k": {"k": {"k": {}}}}}, None),
        ("\x1b[2J\u202e", "'\\x1b[2J\\u202e'"),
    ],
    ids=range(8),
)
def test_a_value_is_shown_in_few_words(value: object, text: str | None) -> None:
    assert len(shown(value)) <= 80
    assert text is None or shown(value) == text


def test_what_holds_itself_is_shown() -> None:
    value: list[object] = []
    value.append(value)
    assert len(shown(value)) <= 80
