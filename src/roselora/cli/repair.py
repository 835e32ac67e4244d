"""``roselora repair``: retrain the edits that later ones have broken."""

from roselora.cli.console import print_json, tell, working
from roselora.cli.option_groups import takes_options
from roselora.cli.stores import EditorOptions, edit_as_json


@takes_options()
def repair(options: EditorOptions) -> None:
    """Retrain the active edits that later ones have broken, and undo the broken ones.

    An edit that a later one replaces (same prompt, another target) is left as it is.
    """
    editor = options.open_editor()
    with working("checking and repairing the edits"):
        made = editor.repair()
    if options.json:
        print_json({"repaired": [edit_as_json(edit) for edit in made]})
        return
    for edit in made:
        tell(f"edit {edit.provenance['repairs']} was broken; {edit.id} replaces it")
    outcome = f"{len(made)} edits repaired"
    tell(outcome if made else "no edit was repaired: every active edit holds, or could not be retrained")
