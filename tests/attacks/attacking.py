"""What all attacks share: hostile bytes and values, the command line in this process, and what must hold afterwards."""

import contextlib
import hashlib
import io
import json
import os
import random
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from roselora.cli.main import main
from roselora.errors import RoseLoraError

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What moves the cursor, sets a title, clears the screen or turns the text about; a tab and a line's end do not."""

NESTED = "@nested@"
"""Stands in a JSON value for more lists in lists than a parser has stack for."""

VALUES = [
    None, True, 0, -1, 2**64, 10**400, 1e308, float("nan"), float("inf"), "", "x", "a" * 10_000, "\x1b[2J\u202e[/]",
    "../../x", [], {}, [[]], [None], {"": {}}, {"x": [1]}, NESTED,
]  # fmt: skip
"""Of every type, and of no sense."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def some_in_ci(attacks: Iterable[Any], every: int) -> list[Any]:
    """Parameters, tuples where they are several, of which all but one in so many are left to the nightly run."""
    return [
        pytest.param(
            *(attack if isinstance(attack, tuple) else (attack,)),
            marks=() if number % every == 0 else pytest.mark.nightly,
            id="-".join(ascii(part)[:40] for part in (attack if isinstance(attack, tuple) else (attack,))),
        )
        for number, attack in enumerate(attacks)
    ]


def roselora(*arguments: str, folder: Path) -> Ended:
    """One command, in this process, as if it were typed in a folder; a crash becomes the exit code 99."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    code: Any = 0
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
        mock.patch.object(sys, "argv", ["roselora", *arguments]),
        warnings.catch_warnings(),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            code = 99
            traceback.print_exc(file=streams[1])
    out, err = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]
    return Ended(code, out, err)


def require_told(ended: Ended) -> None:
    """It worked, or said in one sentence why not; and nothing that it says commands the terminal."""
    assert ended.code in (0, 1, 2), f"{ended.code}: {ended.err[-3000:]}"
    assert "Traceback" not in ended.err, ended.err[-3000:]
    if "rror: " in ended.err:
        said = ended.err[ended.err.index("rror: ") :].strip()
        assert len(said) < 3000, f"{len(said)} characters: {said[:300]!r}"
        assert len(said.splitlines()) <= 3, said
    elif ended.code:
        assert "╭─ Error" in ended.err or ended.out, "it failed and said nothing"
    require_harmless(ended.out + ended.err)


def require_harmless(text: str) -> None:
    """No control character, but for the codes of a progress line that only a terminal gets."""
    found = CONTROL.search(text)
    assert found is None, f"{found[0]!r} in {text[max(0, found.start() - 80) : found.end() + 80]!r}"


def require_typed(call: Callable[[], Any]) -> Any:
    """It returns, or raises an error of ours in one sentence."""
    try:
        return call()
    except RoseLoraError as error:
        refusal = error
    assert 0 < len(str(refusal)) < 3000, f"{len(str(refusal))} characters: {str(refusal)[:300]!r}"
    return refusal


def contents(folder: Path, *but: str) -> dict[str, str]:
    """The digest of every file below a folder, by its path, but for locks and what is named."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and path.name not in ("lock", "lock.holder") and not name.startswith(but or ("\0",)):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.is_dir() and not any(path.iterdir()) and not name.startswith(but or ("\0",)):
            found[name] = "an empty folder"
    return found


def damage(data: bytes, seed: int) -> bytes:
    """The bytes of a file after an accident, another one for each seed."""
    draw = random.Random(seed)
    place = draw.randrange(len(data) + 1)
    kinds: list[Callable[[], bytes]] = [
        lambda: b"",
        lambda: data[:place],
        lambda: _flipped(data, draw, 1),
        lambda: _flipped(data, draw, 64),
        lambda: bytes(len(data)),
        lambda: data[:place] + draw.randbytes(64) + data[place:],
        lambda: data[: place // 2] + data[place:],
        lambda: draw.randbytes(512),
        lambda: b"\xef\xbb\xbf" + data,
        lambda: data[:-1],
        lambda: data + data,
        lambda: _flipped(data[:64], draw, 4) + data[64:],
    ]
    return kinds[seed % len(kinds)]()


def _flipped(data: bytes, draw: random.Random, times: int) -> bytes:
    changed = bytearray(data)
    for _ in range(times if data else 0):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def twist(document: Any, seed: int) -> str:
    """A JSON document in which one value, at any depth, has become another or is gone; as text."""
    draw = random.Random(seed)
    document = json.loads(json.dumps(document))
    value = VALUES[seed % len(VALUES)]
    places = list(_places(document))
    if not places or draw.random() < 0.05:
        return _text(value)
    holder, key = draw.choice(places)
    if draw.random() < 0.1:
        del holder[key]
    else:
        holder[key] = value
    return _text(document)


def _places(value: Any) -> Iterable[tuple[Any, Any]]:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys)[:60]:
        yield value, key
        yield from _places(value[key])


def _text(value: Any) -> str:
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(value).replace(f'"{NESTED}"', "[" * 100_000 + "]" * 100_000)
    finally:
        sys.set_int_max_str_digits(limit)


def offline(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """No attack asks the network, or leaves anything in the user's own cache."""
    monkeypatch.setenv("ROSELORA_HOME", str(home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    os.environ.pop("ROSELORA_DATA_DIR", None)
