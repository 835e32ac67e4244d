"""The audit report of a store: every edit ever made, how, with which hashes and versions, and the last check."""

import html
import json
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from roselora.ui.session import Session

COLUMNS = ("id", "created", "active", "method", "prompt", "target", "consequences", "sha256")
STYLE = (
    "body{font:1rem/1.5 system-ui;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "td,th{padding:.2rem .6rem;text-align:left;vertical-align:top}"
)


def report(session: Session) -> dict[str, Any]:
    """The report as plain JSON. The last check is that of this session, None if there was none; it is current if it was
    made of the edits that are active now.
    """
    state = session.state()
    active, check = [edit["id"] for edit in state["edits"] if edit["active"]], session.last_check
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "roselora": metadata.version("roselora"),
        "model": state["model"],
        "base": state["base"],
        "edits": state["edits"],
        "history": state["history"],
        "check": check and {**check, "current": check["active"] == active},
    }


def report_as_html(found: dict[str, Any]) -> str:
    """The report as a page of its own; everything in it is escaped."""

    def cell(value: Any) -> str:
        return f"<td>{html.escape(value if isinstance(value, str) else _plain(value))}</td>"

    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    rows = "".join(f"<tr>{''.join(cell(edit[name]) for name in COLUMNS)}</tr>" for edit in found["edits"])
    events = "".join(
        f"<tr>{''.join(map(cell, (event['time'], event['kind'], event['edit'] or '', _plain(event['detail']))))}</tr>"
        for event in found["history"]
    )
    check = "not made in this session"
    if found["check"] is not None:
        check = f"{'clean' if found['check']['clean'] else 'not clean'}, made {found['check']['time']}"
        check += "" if found["check"]["current"] else ", before later changes"
    about = (f"Model {found['model']}", f"base SHA-256 {found['base']['sha256']}", f"made {found['made']}",
             f"roselora {found['roselora']}", f"check: {check}")  # fmt: skip
    lines = "".join(f"<p>{html.escape(text)}</p>" for text in about)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<title>roselora: audit report</title>"
        f"<style>{STYLE}</style>"
        f"<h1>Audit report</h1>{lines}<h2>Edits</h2><table><tr>{head}</tr>{rows}</table>"
        f"<h2>History</h2><table>{events}</table></html>"
    )


def _plain(detail: Any) -> str:
    return json.dumps(detail, ensure_ascii=False)
