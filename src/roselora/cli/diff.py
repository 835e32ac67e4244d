"""``roselora diff``: what an edit changes, or where two edits, stores or models differ."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from roselora.cli.console import out, print_json, tell, working
from roselora.cli.path_options import typed_path
from roselora.cli.stores import DEFAULT_STORE, JsonOption, StoreOption, edit_as_json, edits_table, open_store
from roselora.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from roselora.delta.comparison import Collision, WeightChange

DATABASE = "edits.sqlite"
DEMO = "demo"


def diff(
    first: Annotated[str, typer.Argument(help="An edit's id, a store's folder, a model's folder, or demo.")],
    second: Annotated[str | None, typer.Argument(help="Another of the same kind.")] = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Show what one edit changes, or the difference between two edits, two stores or two models."""
    kinds = {_kind(name) for name in (first, second) if name is not None}
    if len(kinds) > 1:
        raise ConfigError(f"{first} and {second} are of different kinds; compare two edits, two stores or two models.")
    kind = kinds.pop()
    if second is None:
        if kind != "edit":
            raise ConfigError(f"{first} is a {kind}; give a second one to compare it with.")
        _show_changes(_edit_changes(store, first), json)
    elif kind == "edit":
        _diff_edits(store, first, second, json)
    elif kind == "store":
        _diff_stores(typed_path(first), typed_path(second), json)
    else:
        _show_changes(_model_changes(first, second), json)


def _kind(name: str) -> str:
    folder = typed_path(name)
    if (folder / DATABASE).is_file():
        return "store"
    return "model" if name == DEMO or folder.is_dir() else "edit"


def _table(weight: str, *others: str) -> Table:
    """A table whose first column, names of weights, is folded and never cut, so that names can be copied."""
    table = Table(box=None, pad_edge=False)
    table.add_column(weight, overflow="fold")
    for header in others:
        table.add_column(header, no_wrap=True)
    return table


def _edit_changes(store: Path, edit_id: str) -> "list[WeightChange]":
    from roselora.delta.comparison import changes

    opened = open_store(store)
    return changes(opened.delta(opened.find(edit_id).id))


def _model_changes(first: str, second: str) -> "list[WeightChange]":
    from roselora.delta.comparison import weight_differences

    with working("comparing every weight"):
        return weight_differences(_weights(first), _weights(second))


def _weights(model: str) -> "Mapping[str, Tensor]":
    from roselora.models.demo_model import demo_model_folder
    from roselora.models.saved_weights import SavedWeights

    return SavedWeights(demo_model_folder() if model == DEMO else typed_path(model))


def _show_changes(changes: "Sequence[WeightChange]", json: bool) -> None:
    if json:
        print_json([asdict(change) for change in changes])
        return
    table = _table("weight", "entries", "share", "norm", "largest move")
    for change in changes:
        largest = change.largest[0]
        move = f"{largest.value:+.2g} at {largest.row},{largest.column}"
        table.add_row(change.name, f"{change.entries:,}", f"{change.share:.2%}", f"{change.norm:.2g}", move)
    out.print(table)
    entries, norm = sum(c.entries for c in changes), math.hypot(*(c.norm for c in changes))
    tell(f"{entries:,} entries in {len(changes)} weights, norm {norm:.3g}")


def _diff_edits(store: Path, first: str, second: str, json: bool) -> None:
    from roselora.delta.comparison import collisions

    opened = open_store(store)
    one, other = opened.find(first), opened.find(second)
    shared = collisions(opened.delta(one.id), opened.delta(other.id))
    if json:
        found = [asdict(collision) for collision in shared]
        print_json({"first": edit_as_json(one), "second": edit_as_json(other), "shared": found})
        return
    out.print(edits_table([one, other]))
    _show_shared(shared)


def _show_shared(shared: "Sequence[Collision]") -> None:
    if not shared:
        tell("They share no entries: neither changes a weight entry that the other changes.")
        return
    table = _table("weight", "shared entries", "norm of 1st", "of 2nd")
    for collision in shared:
        norms = (f"{collision.first_norm:.2g}", f"{collision.second_norm:.2g}")
        table.add_row(collision.name, f"{collision.entries:,}", *norms)
    out.print("", table)
    tell(f"{sum(c.entries for c in shared):,} shared entries in {len(shared)} weights")


def _diff_stores(first: Path, second: Path, json: bool) -> None:
    active = [{edit.delta_sha256: edit for edit in open_store(folder).active()} for folder in (first, second)]
    only = [[edit for key, edit in mine.items() if key not in other] for mine, other in (active, active[::-1])]
    if json:
        report: dict[str, Any] = {"both": len(active[0].keys() & active[1].keys())}
        print_json(report | {"first": [edit_as_json(e) for e in only[0]], "second": [edit_as_json(e) for e in only[1]]})
        return
    for folder, edits in zip((first, second), only, strict=True):
        tell((f"only in {folder}", "bold"), f": {len(edits)} active edits")
        if edits:
            out.print(edits_table(edits))
    tell(f"in both: {len(active[0].keys() & active[1].keys())} active edits")
