"""``roselora edit --with-consequences``: what follows from a fact, shown before it is edited."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from roselora.cli.console import err, tell, working
from roselora.editing.consequences.arrow_notation import as_line
from roselora.editing.request import EditRequest
from roselora.editing.store.provenance import read_provenance

if TYPE_CHECKING:
    from roselora.editing.editor import Editor


def with_proposed(editor: "Editor", request: EditRequest, *, ask: bool) -> EditRequest:
    """A request with the consequences that the model proposes, besides its own; in a terminal the user may strike some.

    Args:
        ask: whether to show them; else all are taken.
    """
    with working("looking for consequences"):
        own = set(request.all_prompts)
        proposed = [fact for fact in editor.consequences(request) if own.isdisjoint(fact.prompts)]
    if ask and not proposed:
        tell(
            "no others are known" if request.consequences else "no consequences are known; name some with --consequence"
        )
    elif ask:
        tell("what follows, as far as the model knows:")
        for number, fact in enumerate(proposed, start=1):
            tell(f"  {number}. {as_line(fact, request)}")
        if sys.stdin.isatty():
            struck = _numbers(len(proposed))
            proposed = [fact for number, fact in enumerate(proposed, start=1) if number not in struck]
    return replace(request, consequences=(*request.consequences, *proposed))


def show_left_out(provenance: Mapping[str, Any]) -> None:
    """Name the consequences that could not be made."""
    for fact in read_provenance(provenance).left_out or ():
        tell((f"left out: {fact}", "yellow"))


def _numbers(count: int) -> set[int]:
    """Which of the lines the user strikes; asks again until these are such numbers."""
    while True:
        try:
            words = typer.prompt("leave out (numbers, or Enter for none)", default="", show_default=False, err=True)
        except typer.Abort:
            raise KeyboardInterrupt from None  # as everywhere else
        numbers = words.replace(",", " ").split()
        if all(number.isdecimal() and 1 <= int(number) <= count for number in numbers):
            return {int(number) for number in numbers}
        err.print(f"Numbers from 1 to {count}, with spaces between them.")
