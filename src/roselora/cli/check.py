"""``roselora check``: which active edits still hold, and what else changed."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from roselora.cli.console import measuring, out, print_json, styled, tell
from roselora.cli.edit_display import asked_cell
from roselora.cli.option_groups import takes_options
from roselora.cli.stores import EditorOptions

if TYPE_CHECKING:
    from roselora.editing.edit_check import CheckReport, EditCollision, EditState

SHOWN_COLLISIONS = 5


@takes_options()
def check(options: EditorOptions) -> None:
    """Load the base model, apply all active edits, and report which hold, which collide, and what else changed.

    Exits with 1 if an active edit does not hold, unless a later edit replaces it.
    """
    editor = options.open_editor()
    with measuring("checking the edits") as on_progress:
        report = editor.check(on_progress)
    if options.json:
        kept = [{**asdict(answer), "moved": answer.moved} for answer in report.kept]
        print_json({"clean": report.clean, **asdict(report), "kept": kept})
    else:
        _print(report)
    if not report.clean:
        raise typer.Exit(1)


def _print(report: "CheckReport") -> None:
    table = Table("id", "prompt", "says now", "", box=None, pad_edge=False)
    for state in report.edits:
        for number, (form, said) in enumerate(_by_form(state).items()):
            asked = asked_cell(state.prompt, form, first=number == 0)
            answers = Text("\n").join(map(styled, said))
            table.add_row("" if number else state.edit_id, asked, answers, _verdict(state, {*said} == {state.target}))
        for each in state.answers:
            if each.kind == "consequence" and not each.holds:
                asked = asked_cell(each.prompt, each.form, first=True)
                table.add_row("", asked, styled(each.text), _verdict(state, False))
    out.print(table if report.edits else "No active edits.")
    if report.collisions:
        _print_collisions(report.collisions)
    if report.kept:
        moved = [answer for answer in report.kept if answer.moved]
        tell()
        tell(f"keep-prompts: {len(report.kept) - len(moved)} of {len(report.kept)} answer as before")
        for answer in moved:
            tell(f"  {answer.prompt} ({answer.form}): {answer.before} -> {answer.now}")


def _verdict(state: "EditState", holds: bool) -> Text:
    """What an edit's answers in one form are called."""
    if holds:
        return styled(("holds", "green"))
    if state.superseded_by:
        return styled(("superseded", "dim"), f" by {state.superseded_by}")
    return styled(("broken", "bold red"), f" by {state.broken_by}" if state.broken_by else "")


def _by_form(state: "EditState") -> dict[str, list[str]]:
    """The different answers to an edit's own prompts in each form."""
    found: dict[str, list[str]] = {}
    for answer in state.answers:
        if answer.kind == "consequence":
            continue
        said = found.setdefault(answer.form, [])
        if answer.text not in said:
            said.append(answer.text)
    return found


def _print_collisions(found: "Sequence[EditCollision]") -> None:
    """The pairs with the same prompt or subject first, then those that share the most entries."""
    ranked = sorted(found, key=lambda pair: (not (pair.same_prompt or pair.same_subject), -pair.entries))
    table = Table("edits that share entries", "entries", "norms", "", box=None, pad_edge=False)
    for pair in ranked[:SHOWN_COLLISIONS]:
        same = [name for name, same in (("prompt", pair.same_prompt), ("subject", pair.same_subject)) if same]
        norms = f"{pair.first_norm:.2g}, {pair.second_norm:.2g}"
        about = f"same {' and '.join(same)}" if same else ""
        table.add_row(f"{pair.first} {pair.second}", f"{pair.entries:,}", norms, about)
    out.print("", table)
    if len(ranked) > SHOWN_COLLISIONS:
        tell(f"and {len(ranked) - SHOWN_COLLISIONS} more pairs, which --json lists")
