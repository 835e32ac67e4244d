"""The command line that does what a job of the page does."""

import shlex
from collections.abc import Iterable

from roselora.ui.bodies import Body, Edit, ExportTo, Many, Note, Nothing, Switch


def command_line(action: str, body: Body, model: str, store: str) -> str:
    """A shell command, or for what only the API does, one with curl.

    >>> command_line("undo", Switch(id="5d42"), "demo", "edits")
    'roselora undo 5d42 --store edits'
    """
    match body:
        case Edit():
            options = [("--prompt", body.prompt), ("--target", body.target)]
            options += [("--subject", body.subject)] if body.subject else []
            options += [("--rephrase", text) for text in body.rephrasings] + [("--keep", text) for text in body.keep]
            options += [("--form", body.form)] if body.form != "both" else []
            words = ["edit", model, *_flat(options), "--method", body.method, *(["--dry-run"] if body.dry_run else [])]
        case Many():
            words = ["edit", model, "--from", f"facts.{body.kind}", "--method", body.method]
        case Switch():
            words = [action, body.id]
        case Note():
            words = ["note", body.id, body.text]
        case ExportTo():
            words = ["export", body.name, "--format", body.format]
        case Nothing() if action in ("check", "repair"):
            words = [action]
        case _:
            asked = body.model_dump_json(exclude_defaults=True)
            head = "curl -H 'Authorization: Bearer TOKEN' -H 'Content-Type: application/json'"
            return f"{head} ADDRESS/api/{action} -d {shlex.quote(asked)}"
    return shlex.join(["roselora", *words, "--store", store])


def _flat(options: Iterable[tuple[str, str]]) -> Iterable[str]:
    return (word for option in options for word in option)
