"""Writes the reference of the commands for mkdocs, and names what is no page of the site instead of linking it."""

import logging
import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from roselora.cli.main import app

logger = logging.getLogger("mkdocs.hooks")
ROOT = Path(__file__).parents[1]
COMMANDS = "reference/commands.md"
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")
"""A link to a file of the repository that is no page."""


def on_files(files: Files, config: Any) -> Files:
    """Add the page of the commands, made from their help."""
    command = typer.main.get_command(app)
    with command.make_context("roselora", ["--help"], resilient_parsing=True) as context:
        text = get_docs_for_click(obj=command, ctx=context, name="roselora", title="Commands")
    files.append(File.generated(config, COMMANDS, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Name files of the repository instead of linking them, if they are there."""
    for _, path in OUTSIDE.findall(markdown):
        if not (ROOT / path.split("#")[0]).exists():
            logger.warning("%s links to %s, which is not there", page.file.src_path, path)
    return OUTSIDE.sub(r"\1 (`\2`)", markdown)
