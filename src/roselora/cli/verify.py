"""``roselora verify``: check every file of a store against its hash. No model is loaded."""

from typing import Annotated

import typer

from roselora.cli.console import print_json, tell
from roselora.cli.stores import DEFAULT_STORE, JsonOption, StoreOption, open_store


def verify(
    store: StoreOption = DEFAULT_STORE,
    collect: Annotated[
        bool,
        typer.Option("--collect", help="Remove files that no edit refers to, and leftovers of killed exports."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check the store's database, and every delta file against its hash. Exits with 1 if there is a problem."""
    opened = open_store(store)
    problems, removed = opened.verify(), []
    serious = [problem for problem in problems if not problem.harmless]
    if collect and not serious:
        from roselora.staging import remove_stale

        with opened.writing():
            removed = opened.collect_orphans() + remove_stale(opened.folder.parent)
        problems = [problem for problem in problems if problem.path not in removed]
    if json:
        found = [{"what": problem.what, "harmless": problem.harmless} for problem in problems]
        print_json({"whole": not serious, "problems": found, "removed": [str(path) for path in removed]})
    else:
        for path in removed:
            tell(f"removed {path}")
        for problem in problems:
            tell(problem.what)
        if not serious:
            tell(f"{store} is intact: {len(opened.edits())} edits")
    if serious:
        raise typer.Exit(1)
