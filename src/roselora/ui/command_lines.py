"""The command line that does what a job of the page does."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from roselora.editing.consequences.arrow_notation import as_line
from roselora.ui.bodies import Body, Edit, ExportTo, Many, Note, Nothing, Switch

LOADING = ("edit", "check", "repair", "export")
"""The verbs that load the model."""


@dataclass(frozen=True)
class Invocation:
    """What the user called the page with, which its command lines repeat.

    Attributes:
        model, store: as the user named them.
        exports: the folder of exports.
        loading: options that say how the model is loaded, such as "--device=cpu".
    """

    model: str
    store: str
    exports: Path
    loading: tuple[str, ...] = ()


def command_line(action: str, body: Body, called: Invocation) -> str:
    """A shell command, or for what only the API does, one with curl.

    >>> command_line("undo", Switch(id="5d42"), Invocation("demo", "edits", Path("exports")))
    'roselora undo --store=edits -- 5d42'
    """
    match body:
        case Edit():
            request = body.request()
            more = [("--prompt", body.prompt), ("--target", body.target)]
            more += [("--subject", body.subject)] if body.subject else []
            more += [("--rephrase", text) for text in body.rephrasings] + [("--keep", text) for text in body.keep]
            more += [("--consequence", as_line(fact, request)) for fact in request.consequences]
            more += [("--form", body.form)] if body.form != "both" else []
            # An equals sign, because a text may begin with a dash.
            given = [f"{name}={text}" for name, text in more]
            verb, options, words = "edit", [*given, f"--method={body.method}"], [called.model]
            options += ["--dry-run"] if body.dry_run else []
        case Many():
            verb, options, words = "edit", [f"--from=facts.{body.kind}", f"--method={body.method}"], [called.model]
        case Switch():
            verb, options, words = action, [], [body.id]
        case Note():
            verb, options, words = "note", [], [body.id, body.text]
        case ExportTo():
            verb, options, words = "export", [f"--format={body.format}"], [str(called.exports / body.name)]
        case Nothing() if action in ("check", "repair"):
            verb, options, words = action, [], []
        case _:
            asked = body.model_dump_json(exclude_defaults=True)
            head = "curl -H 'Authorization: Bearer TOKEN' -H 'Content-Type: application/json'"
            return f"{head} ADDRESS/api/{action} -d {shlex.quote(asked)}"
    options += [*(called.loading if verb in LOADING else ()), f"--store={called.store}"]
    return shlex.join(["roselora", verb, *options, *(["--", *words] if words else [])])
