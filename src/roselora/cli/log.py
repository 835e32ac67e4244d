"""``roselora log``, ``show`` and ``note``: the history of a store."""

from typing import Annotated

import typer

from roselora.cli.console import out, print_json, tell
from roselora.cli.stores import (
    DEFAULT_STORE,
    DryRunOption,
    EditArgument,
    JsonOption,
    StoreOption,
    edit_as_json,
    edits_table,
    open_store,
)
from roselora.errors import ConfigError


def log(store: StoreOption = DEFAULT_STORE, json: JsonOption = False) -> None:
    """List all edits in the store in commit order, including undone and superseded ones."""
    from roselora.editing.contradictions import superseded

    edits = open_store(store).edits()
    by = superseded([edit for edit in edits if edit.active])
    if json:
        print_json([edit_as_json(edit) | {"superseded_by": by.get(edit.id)} for edit in edits])
    elif edits:
        out.print(edits_table(edits, by))
    else:
        tell("No edits yet.")


def show(edit_id: EditArgument, store: StoreOption = DEFAULT_STORE, json: JsonOption = False) -> None:
    """Show one edit: the request, the answers before and after, its provenance and its history."""
    from roselora.editing.contradictions import superseded
    from roselora.editing.store.provenance import read_provenance

    opened = open_store(store)
    edit = opened.find(edit_id)
    history = opened.history(edit.id)
    by = superseded(opened.active())
    if json:
        events = [{**event.detail, "kind": event.kind, "time": event.time} for event in history]
        print_json({**edit_as_json(edit), "superseded_by": by.get(edit.id), "history": events})
        return
    out.print(edits_table([edit], by))
    if edit.id in by:
        tell(f"superseded by {by[edit.id]}, which has the same prompt and another target")
    parts = read_provenance(edit.provenance)
    for answer in parts.answers or ():
        tell()
        tell((f"{answer.kind} ({answer.form})", "dim"), f" {answer.prompt}")
        tell(f"  before: {answer.before}")
        tell(f"  after:  {answer.after}")
    if (update := parts.update) and (training := parts.training):
        promised = f" (at least {update.sparsity_bound:.2%})" if parts.method == "rose" else ""
        tell()
        out.print(
            f"{update.entries_changed:,} entries changed, sparsity {update.sparsity:.2%}{promised}, "
            f"{training.steps} steps, {training.seconds} s"
        )
    for fact in parts.left_out or ():
        tell(f"left out {fact}")
    if parts.supersedes:
        tell(f"replaces {', '.join(parts.supersedes)}")
    if parts.repairs:
        tell(f"repairs {parts.repairs}")
    if parts.method is not None:
        tell(f"method {parts.method}")
    if edit.request.subject is not None:
        tell(f"subject {edit.request.subject}")
    for title, pairs in (("settings", parts.settings), ("versions", parts.versions)):
        if pairs:
            out.print(f"{title} {', '.join(f'{name} {value}' for name, value in pairs.items())}")
    tell(f"delta {edit.delta_sha256}")
    for event in history:
        tell(f"{event.time[:19].replace('T', ' ')} {event.kind} {event.detail.get('text', '')}")


def note(
    edit_id: EditArgument,
    text: Annotated[str, typer.Argument(help="The note.")],
    store: StoreOption = DEFAULT_STORE,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Add a note to an edit's history."""
    text = " ".join(text.split())  # history entries are single lines
    if not text:
        raise ConfigError("The note is empty.")
    opened = open_store(store)
    edit = opened.find(edit_id)
    if not dry_run:
        with opened.writing():
            opened.note(edit.id, text)
    if json:
        print_json({"id": edit.id, "text": text, "dry_run": dry_run})
        return
    tell(f"{'would note' if dry_run else 'noted'} for {edit.id}: {text}")
