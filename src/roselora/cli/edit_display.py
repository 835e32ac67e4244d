"""One edit with the answers before and after it, as ``demo`` and ``edit`` show it."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from roselora.cli.console import out, styled, tell
from roselora.editing.answer_match import matches


def show_answers(answers: Sequence[Mapping[str, str]], target: str) -> None:
    """A table, within 80 columns, of what the model said before and after an edit; what moved that shall not, in words.

    Args:
        answers: each with ``kind``, ``prompt``, ``before`` and ``after``; answers of the kinds ``keep`` and
            ``elsewhere`` are not meant to move.
        target: what all others are meant to become.
    """
    table = Table(box=None, pad_edge=False, width=min(out.width, 100))
    table.add_column("", no_wrap=True)
    for header, ratio in (("prompt", 34), ("before", 24), ("after", 24)):
        table.add_column(header, ratio=ratio, overflow="fold")
    for answer in answers:
        meant = answer["before"] if answer["kind"] in ("keep", "elsewhere") else target
        style = "green" if matches(answer["after"], [meant]) else "yellow"
        table.add_row(
            styled((answer["kind"], "dim")),
            answer["prompt"],
            answer["before"],
            styled((answer["after"], style)),
        )
    out.print(table)
    kept = [answer for answer in answers if answer["kind"] == "keep"]
    if moved := [answer for answer in kept if not matches(answer["after"], [answer["before"]])]:
        tell((f"{len(moved)} of {len(kept)} keep-prompts moved, though they should not", "yellow"))


METHODS = {"gate": "gated neuron edit", "rose": "RoseLoRA"}
"""What users read of the method of an edit."""


def show_update(provenance: Mapping[str, Any], parameters: int) -> None:
    """The numbers of one update: method, entries, sparsity, time; of RoseLoRA's Proposition 1's bound too."""
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
