"""How ``demo`` and ``edit`` show an edit: the answers before and after, and the size of the update."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from roselora.cli.console import out, styled, tell
from roselora.editing.answer_match import matches
from roselora.editing.request import BARE

UNCHANGED = ("keep", "elsewhere")
"""The kinds of answers that an edit should not change."""


def show_answers(answers: Sequence[Mapping[str, Any]], target: str) -> None:
    """Print a table of the model's answers before and after an edit, and warnings: of an edit that was not needed, and
    of keep-prompts that changed.

    Args:
        answers: each with ``kind``, ``prompt``, ``form``, ``before`` and ``after``, all forms of a prompt in a row.
            Answers of the kinds ``keep`` and ``elsewhere`` should not change; all others should become their
            ``target``, or the edit's where they have none.
        target: the edit's.
    """
    table = Table(box=None, pad_edge=False, width=min(out.width, 100))
    table.add_column("", no_wrap=True)
    for header, ratio in (("prompt", 34), ("before", 24), ("after", 24)):
        table.add_column(header, ratio=ratio, overflow="fold")
    last = ("", "")
    for answer in answers:
        expected = answer["before"] if answer["kind"] in UNCHANGED else answer.get("target") or target
        style = "green" if _same(answer["after"], expected) else "yellow"
        about = (answer["kind"], answer["prompt"])
        table.add_row(
            styled(("" if about == last else answer["kind"], "dim")),
            asked_cell(answer["prompt"], answer["form"], first=about != last),
            answer["before"],
            styled((answer["after"], style)),
        )
        last = about
    out.print(table)
    edited = [answer for answer in answers if answer["kind"] not in UNCHANGED]
    if all(_same(answer["before"], answer.get("target") or target) for answer in edited):
        tell(("every prompt was answered with the target already; take the edit back if it was not needed", "yellow"))
    kept = [answer for answer in answers if answer["kind"] == "keep"]
    if moved := [answer for answer in kept if not _same(answer["after"], answer["before"])]:
        tell((f"{len(moved)} of {len(kept)} answers to keep-prompts changed, which they should not", "yellow"))


def _same(answer: str, expected: str) -> bool:
    return answer == expected or matches(answer, [expected])  # a blank answer matches nothing


def asked_cell(prompt: str, form: str, *, first: bool) -> Text:
    """A prompt in a table in which each of its forms has a row: the prompt itself in the first, then only the form."""
    if first:
        return styled(prompt) if form == BARE else styled(prompt, (f" ({form})", "dim"))
    return styled((f"  {form}", "dim"))


METHODS = {"gate": "gated neuron edit", "rose": "RoseLoRA"}
"""The names of the edit methods in the output."""


def show_update(provenance: Mapping[str, Any], parameters: int) -> None:
    """Print an update's method, size, sparsity and training time, and for RoseLoRA Proposition 1's bound."""
    method, update, training = provenance["method"], provenance["update"], provenance["training"]
    changed = update["entries_changed"]
    promised = f", Proposition 1 promises at least {update['sparsity_bound']:.2%}" if method == "rose" else ""
    tell(f"{METHODS[method]} (--method {method})")
    tell(
        f"changed {changed:,} entries: {100 * changed / update['entries']:.2g}% of the adapted matrices, "
        f"{100 * changed / parameters:.2g}% of the model"
    )
    tell(f"sparsity {update['sparsity']:.2%}{promised}")
    tell(f"{training['steps']} steps, {training['seconds']:.1f} s")
