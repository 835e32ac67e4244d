"""One edit with the answers before and after it, as ``demo`` and ``edit`` show it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from roselora.cli.console import out, training

if TYPE_CHECKING:
    from roselora.editing.editor import Edit, Editor


@dataclass(frozen=True)
class Answer:
    """What the model said to one prompt before and after an edit."""

    kind: str
    prompt: str
    before: str
    after: str

    @property
    def moved(self) -> bool:
        """Whether the answer changed."""
        return self.before != self.after


@dataclass(frozen=True)
class Trial:
    """One edit and what it did to the model's answers."""

    edit: "Edit"
    answers: tuple[Answer, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        edit = self.edit
        return {
            "prompt": edit.request.prompt,
            "target": edit.request.target,
            "steps": edit.steps,
            "seconds": round(edit.seconds, 2),
            "entries_changed": edit.entries_changed,
            "entries_adapted": edit.entries,
            "sparsity": 1 - edit.entries_changed / edit.entries,
            "sparsity_bound": edit.sparsity_bound,
            "answers": [
                {"kind": a.kind, "prompt": a.prompt, "before": a.before, "after": a.after, "moved": a.moved}
                for a in self.answers
            ],
        }


def run_trial(
    editor: "Editor",
    prompt: str,
    target: str,
    shown: Sequence[tuple[str, str]],
    *,
    rephrasings: Sequence[str] = (),
    keep: Sequence[str] = (),
    title: str = "editing",
) -> Trial:
    """Edit, with the answers to the prompt and to all of ``shown`` (kind, prompt) before and after."""
    asked = [("prompt", prompt), *shown]
    prompts = [text for _, text in asked]
    before = editor.answers(prompts)
    settings = editor.settings
    with training(title, settings.warmup + settings.ramp, settings.max_steps) as on_step:
        edit = editor.edit(prompt, target, rephrasings=rephrasings, keep=keep, on_step=on_step)
    after = editor.answers(prompts)
    rows = zip(asked, before, after, strict=True)
    return Trial(edit, tuple(Answer(kind, text, old, new) for (kind, text), old, new in rows))


def show_trial(trial: Trial, parameters: int) -> None:
    """Print a trial as a table that fits 80 columns, with the numbers of the update below it."""
    table = Table(box=None, pad_edge=False, width=min(out.width, 100))
    for header, ratio in (("", 11), ("prompt", 34), ("before", 26), ("after", 26)):
        table.add_column(header, ratio=ratio, overflow="fold")
    for answer in trial.answers:
        wanted = answer.kind in ("prompt", "rephrasing", "held out")
        style = "green" if answer.moved == wanted else "yellow"
        table.add_row(
            f"[dim]{answer.kind}[/dim]",
            escape(answer.prompt),
            escape(answer.before),
            f"[{style}]{escape(answer.after)}[/{style}]",
        )
    out.print(table)
    edit = trial.edit
    out.print(
        f"changed {edit.entries_changed:,} entries: {edit.entries_changed / edit.entries:.2%} of the adapted "
        f"matrices, {edit.entries_changed / parameters:.2%} of the model\n"
        f"sparsity {1 - edit.entries_changed / edit.entries:.2%}, Proposition 1 promises at least "
        f"{edit.sparsity_bound:.2%}\n"
        f"{edit.steps} steps, {edit.seconds:.1f} s",
        highlight=False,
    )
