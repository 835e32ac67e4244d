"""What all reports are made of: sections in Markdown, a JSON document and pictures, in one folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from roselora.bench.records.failed_run import FailedRun
from roselora.bench.records.run_files import as_json
from roselora.files import write_atomically
from roselora.markdown import code, text

MARKDOWN, JSON = "report.md", "report.json"


def section(title: str, *paragraphs: str) -> str:
    """A heading with the paragraphs and tables under it; empty ones are left out.

    >>> section("Scores", "| a |", "", "Of one.")
    '## Scores\\n\\n| a |\\n\\nOf one.'
    """
    return "\n\n".join([f"## {title}", *filter(None, paragraphs)])


def failed_runs_section(failures: Sequence[FailedRun]) -> str:
    """What could not be run; empty if everything could."""
    if not failures:
        return ""
    return section(
        "Failed runs",
        "These gave no result, because of a bug, too little memory, or a method that does not fit the model or the "
        "request, and are part of no score. The same command tries them again.",
        "\n".join(f"- {text(one.method)}, {text(one.at)}: {text(one.error)}" for one in failures),
    )


def settings_section(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """The settings of each method; methods that share theirs are on one line."""
    shared: dict[str, list[str]] = {}
    for method, own in settings.items():
        shared.setdefault(json.dumps(as_json(own), ensure_ascii=False), []).append(text(method))
    lines = [f"- {', '.join(methods)}: {code(shown)}" for shown, methods in shared.items()]
    return section("Settings of each method", "\n".join(lines))


def write_report_files(
    folder: Path, sections: Sequence[str], document: Any, pictures: Mapping[str, bytes]
) -> list[Path]:
    """Write a report, replacing one that is there; empty sections are left out.

    Args:
        document: what `report.json` holds, in any form that :func:`~roselora.bench.records.run_files.as_json` takes.
        pictures: PNG by file name.

    Returns:
        The files that were written.

    Raises:
        OSError: one of them cannot be written.
    """
    files = {
        MARKDOWN: ("\n\n".join(filter(None, sections)) + "\n").encode(),
        JSON: json.dumps(as_json(document), indent=2).encode() + b"\n",
        **pictures,
    }
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]
