"""``roselora verify``: every file of a store against its hash. No model is loaded for it."""

from typing import Annotated

import typer
from rich.markup import escape

from roselora.cli.console import out, print_json
from roselora.cli.stores import DEFAULT_STORE, JsonOption, StoreOption, open_store


def verify(
    store: StoreOption = DEFAULT_STORE,
    collect: Annotated[bool, typer.Option("--collect", help="Remove files that no edit refers to.")] = False,
    json: JsonOption = False,
) -> None:
    """Check the store's database, and every delta file against its hash. Exits with 1 if something is wrong."""
    opened = open_store(store)
    problems, removed = opened.verify(), []
    serious = [problem for problem in problems if not problem.harmless]
    if collect and not serious:
        with opened.writing():
            removed = opened.collect_orphans()
        problems = [problem for problem in problems if problem.path not in removed]
    if json:
        found = [{"what": problem.what, "harmless": problem.harmless} for problem in problems]
        print_json({"whole": not serious, "problems": found, "removed": [str(path) for path in removed]})
    else:
        for path in removed:
            out.print(f"removed {escape(str(path))}", highlight=False, soft_wrap=True)
        for problem in problems:
            out.print(escape(problem.what), highlight=False, soft_wrap=True)
        if not serious:
            out.print(f"{store} is whole: {len(opened.edits())} edits", highlight=False, soft_wrap=True)
    if serious:
        raise typer.Exit(1)
