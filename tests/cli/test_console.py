"""What is shown is what stands there: no markup, no emoji codes, no control characters, and no failing print."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.table import Table

from roselora.cli import console, main
from roselora.cli.stores import edits_table
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import BaseIdentity
from roselora.editing.store.edit_store import EditStore

AS_THEY_ARE = ("odds 10:100:1", ":apple:", "[bold]x[/bold]", "runs/[v2]/e", "e[/]", "a [link=x]", "C:\\new\\", "a\\[b]")
STEERING = {
    "\x1b[2J": r"\x1b[2J",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x9b2J": r"\x9b2J",
    "a\x00b\x08c\rd": r"a\x00b\x08c\rd",
    "\x0b\x0c\x7f\x85": r"\x0b\x0c\x7f\x85",
    "\u202etxt.exe\u2066\u200f\u061c": r"\u202etxt.exe\u2066\u200f\u061c",
    "\u2028\ufeff\U000e0041": r"\u2028\ufeff\U000e0041",
    "\udcff": r"\udcff",
    "two\nlines\tof": r"two\nlines\tof",
}
LEFT_ALONE = ("Zürich", "法国的首都是", "می‌خواهم", "👨‍👩‍👧", "กรุงเทพ")


def show(text: str) -> None:
    table = Table("a column", box=None)
    table.add_row(text)
    console.out.print(table)


WAYS: dict[str, Callable[[str], None]] = {
    "a line": console.tell,
    "a styled part": lambda text: console.tell((text, "bold")),
    "print": lambda text: console.out.print(text),
    "a table": show,
    "an error": console.complain,
    "a progress line": lambda text: console.progress_lines()(text),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", AS_THEY_ARE)
def test_text_that_looks_like_markup_is_shown_as_it_is(text: str, way: str, capsys: pytest.CaptureFixture[str]) -> None:
    WAYS[way](text)
    assert text in "".join(capsys.readouterr())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", STEERING)
def test_control_characters_are_shown_as_escapes(text: str, way: str, capsys: pytest.CaptureFixture[str]) -> None:
    WAYS[way](text)
    assert STEERING[text] in "".join(capsys.readouterr())


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_what_any_language_needs_is_left_alone(text: str) -> None:
    assert console.visible(text) == text


@pytest.mark.parametrize("bar", [console.working, console.measuring, lambda what: console.training(what, 3, 5)])
@pytest.mark.parametrize("name", ["x[/]", "x\x1b[2J"])
def test_bars_and_spinners_take_any_name(bar: Callable[[str], Any], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    terminal = console.PlainConsole(stderr=True)
    terminal.file = written
    monkeypatch.setattr(terminal, "_force_terminal", True)
    terminal.is_interactive = True
    monkeypatch.setattr(console, "err", terminal)
    with bar(f"loading {name}") as tick:
        if tick is not None:
            tick(1, 2)
    assert console.visible(name) in written.getvalue()
    assert "\x1b[2J" not in written.getvalue()


@pytest.mark.parametrize("text", [*STEERING, *LEFT_ALONE])
def test_json_keeps_every_character_and_writes_no_control_character(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    console.print_json({text: text})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {text: text}
    assert not console.CONTROLS.search(shown)


def test_json_has_null_where_a_number_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"a": [float("nan"), (1.5, float("-inf"))]})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"a": [None, [1.5, None]]}


@pytest.mark.parametrize("json_wanted", [True, False])
def test_an_output_that_lacks_the_characters_never_fails_and_json_stays_whole(
    json_wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = typer.Typer()

    @program.command()
    def verb() -> None:
        if json_wanted:
            console.print_json({"prompt": "法国 🍎"})
        else:
            console.tell("法国 🍎")
            typer.echo("里昂")
            console.complain("里昂")

    raw = io.BytesIO()
    monkeypatch.setattr(main, "app", program)
    monkeypatch.setattr(sys, "argv", ["roselora"])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="cp1252"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with pytest.raises(SystemExit) as end:
        main.main()
    assert not end.value.code
    sys.stdout.flush()
    said = raw.getvalue().decode("cp1252")
    if json_wanted:
        assert json.loads(said) == {"prompt": "法国 🍎"}
    else:
        assert said.split() == [r"\u6cd5\u56fd", r"\U0001f34e", r"\u91cc\u6602"]


def test_a_strangers_store_cannot_steer_the_terminal(
    tmp_path: Path, small_store: Callable[[Path, EditRequest], EditStore], capsys: pytest.CaptureFixture[str]
) -> None:
    store = small_store(tmp_path / "e", EditRequest("\x1b]0;x\x07 [/] :apple:", "\x1b[8mhidden"))
    console.out.print(edits_table(store.edits()))
    shown = capsys.readouterr().out
    assert r"\x1b]0;x\x07 [/] :apple:" in shown
    assert r"\x1b[8mhidden" in shown.replace("\n", "")


@pytest.fixture
def small_store() -> Callable[[Path, EditRequest], EditStore]:
    """Makes a store of one edit, without a model."""

    def make(folder: Path, request: EditRequest) -> EditStore:
        import torch

        from roselora.delta.sparse_delta import SparseDelta, SparseFactors

        store = EditStore.open(folder, BaseIdentity("tiny", "LlamaForCausalLM", "ab" * 32), create=True)
        factors = SparseFactors.from_factors(
            "w", torch.ones(1, 4), torch.ones(4, 1), 1.0, base_dtype=torch.float32, base_sha256="0" * 64
        )
        with store.writing():
            store.add(request, SparseDelta((factors,), {}), {})
        return store

    return make
