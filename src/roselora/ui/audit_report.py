"""The audit report of a store: every edit ever made, how, with which hashes and versions, and the last check."""

import html
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from roselora.ui.session import Session

COLUMNS = ("id", "created", "active", "method", "prompt", "target", "sha256")
STYLE = (
    "body{font:1rem/1.5 system-ui;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "td,th{padding:.2rem .6rem;text-align:left;vertical-align:top}"
)


def report(session: Session) -> dict[str, Any]:
    """The report as plain JSON. The last check is that of this session, None if there was none."""
    state = session.state()
    checks = [job.result for job in session.jobs.all() if job.action == "check" and job.state == "done"]
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "roselora": metadata.version("roselora"),
        "model": state["model"],
        "base": state["base"],
        "edits": state["edits"],
        "history": state["history"],
        "check": checks[-1] if checks else None,
    }


def report_as_html(found: dict[str, Any]) -> str:
    """The report as a page of its own; everything in it is escaped."""

    def cell(value: Any) -> str:
        return f"<td>{html.escape(str(value))}</td>"

    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    rows = "".join(f"<tr>{''.join(cell(edit[name]) for name in COLUMNS)}</tr>" for edit in found["edits"])
    events = "".join(
        f"<tr>{cell(event['time'])}{cell(event['kind'])}{cell(event['edit'] or '')}{cell(event['detail'])}</tr>"
        for event in found["history"]
    )
    check = (
        "not made in this session" if found["check"] is None else "clean" if found["check"]["clean"] else "not clean"
    )
    about = (f"Model {found['model']}", f"base SHA-256 {found['base']['sha256']}", f"made {found['made']}",
             f"roselora {found['roselora']}", f"check: {check}")  # fmt: skip
    lines = "".join(f"<p>{html.escape(text)}</p>" for text in about)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>roselora: audit report</title>'
        f"<style>{STYLE}</style>"
        f"<h1>Audit report</h1>{lines}<h2>Edits</h2><table><tr>{head}</tr>{rows}</table>"
        f"<h2>History</h2><table>{events}</table></html>"
    )
