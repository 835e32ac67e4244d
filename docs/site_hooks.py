"""Pages that are no Markdown file: the reference of the commands, and the notebooks with their outputs.

A notebook becomes a page of Markdown here, and not by a plugin, so that its links are checked and lead to pages as all
others do, its code looks as on the other pages, and the site needs no script from elsewhere. What a page links that is
none of the site is named instead.
"""

import json
import logging
import posixpath
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
UPWARDS = re.compile(r"\[([^\]]+)\]\((\.\./[^)]+)\)")
"""A link to a folder above the page's: one out of the docs is to a file of the repository that is no page."""


class Notebook(File):
    """A notebook that is a page, though its name does not end as a page's does."""

    def is_documentation_page(self) -> bool:
        """Whether mkdocs makes a page of it."""
        return True


def on_files(files: Files, config: Any) -> Files:
    """Add the page of the commands, made from their help, and make pages of the notebooks."""
    command = typer.main.get_command(app)
    with command.make_context("roselora", ["--help"], resilient_parsing=True) as context:
        text = get_docs_for_click(obj=command, ctx=context, name="roselora", title="Commands")
    files.append(File.generated(config, COMMANDS, content=text))
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        page = Notebook(file.src_uri, None, config.site_dir, config.use_directory_urls)
        page.content_string = notebook_markdown(file.content_string)
        files.remove(file)
        files.append(page)
    return files


def notebook_markdown(notebook: str) -> str:
    """A notebook's cells with their outputs, as Markdown; what is written to be run by bash is marked as such.

    Args:
        notebook: the JSON of the notebook's file.
    """
    parts = []
    for cell in json.loads(notebook)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        magic, _, script = source.partition("\n")
        parts.append(f"```bash\n{script}\n```" if magic == "%%bash" else f"```python\n{source}\n```")
        parts += map(_output_markdown, cell["outputs"])
    return "\n\n".join(parts) + "\n"


def _output_markdown(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "text/markdown" in data:
        return "".join(data["text/markdown"])
    text = "".join(output.get("text", data.get("text/plain", [])))
    return f'```text title="Output"\n{text.rstrip()}\n```'


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Name files of the repository instead of linking them, if they are there."""

    def named(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), link[2].split("#")[0]))
        if path.startswith("docs/"):
            return link[0]
        if not (ROOT / path).exists():
            logger.warning("%s links to %s, which is not there", page.file.src_path, path)
        return f"{link[1]} (`{link[2].removeprefix('../')}`)"

    return UPWARDS.sub(named, markdown)
