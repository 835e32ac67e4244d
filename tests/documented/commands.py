"""The commands that the README, the pages, the tutorials, the verbs' help and the scripts' docstrings tell to type."""

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer.main

from docs.site_hooks import notebook_markdown
from roselora.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/*.md",
    "docs/tutorials/*.ipynb",
    "benchmarks/results/**/README.md",
)
SCRIPTS = sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("examples/*.py")])

HEADS = ("roselora", "make", "torchrun", "accelerate launch", "python benchmarks/", "python examples/", "python -m")
BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        place: file and line, such as "docs/editing.md:4"; of a notebook, the line of the page that is made of it.
        words: as a shell would part them; comments and redirections are left out.
        whole: whether it was written to be typed as it stands; the name of a verb in a sentence is not.
        block: the place where the code block begins that it is a line of, for those that follow one another.
    """

    place: str
    words: tuple[str, ...]
    whole: bool = True
    block: str | None = None

    def __str__(self) -> str:
        return f"{self.place} {shlex.join(self.words)}"


def documented() -> list[Command]:
    """Every command, page by page."""
    pages = sorted(path for pattern in PAGES for path in ROOT.glob(pattern))
    found = [command for path in pages for command in _of_page(path)]
    return [*found, *_of_help(), *(command for path in SCRIPTS for command in _of_docstring(path))]


def _of_page(path: Path) -> Iterator[Command]:
    text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
    text = notebook_markdown(text) if path.suffix == ".ipynb" else text

    def line(offset: int) -> int:
        return text.count("\n", 0, offset) + 1

    for block in BLOCK.finditer(text):
        if block[2] == "bash":
            begin = line(block.start())
            yield from _of_shell(block[3], name, begin + 1, f"{name}:{begin}")
    without = BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text)
    for span in INLINE.finditer(without):
        words = tuple(span[1].split("#")[0].split()) if '"' not in span[1] else tuple(shlex.split(span[1]))
        if _is_command(words):
            place = f"{name}:{without.count(chr(10), 0, span.start()) + 1}"
            yield Command(place, words, whole=any(word.startswith("-") for word in words))


def _of_shell(script: str, name: str, first: int, block: str) -> Iterator[Command]:
    """The lines of a code block; a loop's lines are indented, and its variable is a placeholder like any other."""
    pending, begin = "", first
    for number, line in enumerate(script.splitlines(), start=first):
        begin = number if not pending else begin
        pending += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        words, pending = shlex.split(pending, comments=True), ""
        words = words[: words.index(">")] if ">" in words else words
        if _is_command(words):
            yield Command(f"{name}:{begin}", tuple(words), block=block)


def _is_command(words: tuple[str, ...] | list[str]) -> bool:
    line = " ".join(words)
    return len(words) > 1 and any(line.startswith(head if head.endswith("/") else f"{head} ") for head in HEADS)


def _of_help() -> Iterator[Command]:
    """What follows "Example:" in the help of a verb."""

    def walk(command: Any, name: str) -> Iterator[Command]:
        for child, each in getattr(command, "commands", {}).items():
            yield from walk(each, f"{name} {child}")
        for line in (command.help or "").splitlines():
            if line.strip().startswith("Example:"):
                for part in line.partition("Example:")[2].split("; then"):
                    words = shlex.split(part)
                    words = words[: words.index(">")] if ">" in words else words
                    yield Command(f"{name} --help", tuple(words))

    yield from walk(typer.main.get_command(app), "roselora")


def _of_docstring(path: Path) -> Iterator[Command]:
    """The indented lines of a script's docstring; what stands in brackets may be left out, and is not."""
    name = path.relative_to(ROOT).as_posix()
    for number, line in enumerate((ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").splitlines(), start=1):
        if line.startswith("    python "):
            yield Command(f"{name}:{number}", tuple(line.replace("[", " ").replace("]", " ").split()))
