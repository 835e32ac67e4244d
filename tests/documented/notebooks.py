"""The tutorials: run in a kernel of their own, and what they print.

    python -m tests.documented.notebooks [NAME ...]

runs all notebooks, or those named, and writes their outputs anew; the site shows them.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"

VARIES = "varies"
"""The tag of cells whose words may be others on another machine."""

READERS_OWN = ("ROSELORA_STORE", "ROSELORA_DATA_DIR")
"""Variables that would lead a command to other folders than the notebook's."""

NUMBERS = re.compile(r"\b[0-9a-f]{12}(?:[0-9a-f]{52})?\b|\d+(?:[.,:]\d+)*(?:e-\d+)?")
"""Ids, hashes and numbers: the former are drawn or name a file's bytes, the latter differ in their last digits."""


ANSI = re.compile(r"\x1b\[[0-9;]*m")
"""A colour, or its end: a kernel asks programs for colours though they write into a pipe."""


def read(path: Path) -> NotebookNode:
    """A notebook as it is committed."""
    return nbformat.read(path, as_version=4)


def execute(notebook: NotebookNode, folder: Path) -> None:
    """Run all cells in a folder, and put what they print in the place of their outputs.

    What goes to stderr, such as warnings and progress, depends on the machine and is left out. So are colours, and the
    home folder is written as a tilde.

    Raises:
        CellExecutionError: a cell raised an exception, or a command in it failed.
    """
    environment = {name: value for name, value in os.environ.items() if name not in READERS_OWN}
    environment |= {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),  # where `roselora` is
        "IPYTHONDIR": str(folder / ".ipython"),  # nobody's own settings
        "COLUMNS": "100",
    }
    client = NotebookClient(
        notebook,
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment)
    notebook.metadata.language_info = {"name": "python"}
    for cell in code_cells(notebook):
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            if output.output_type == "stream":
                output["text"] = ANSI.sub("", output["text"]).replace(str(Path.home()), "~")


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that are run."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell: NotebookNode) -> list[str]:
    """What a cell's outputs say, one text an output."""
    return [output["text"] if output.output_type == "stream" else _best(output["data"]) for output in cell.outputs]


def _best(data: NotebookNode) -> str:
    return data.get("text/markdown", data["text/plain"])


def words(cell: NotebookNode) -> str:
    """What a cell's outputs say, without numbers, ids and the widths of columns."""
    return " ".join(NUMBERS.sub("#", "\n".join(texts(cell))).split())


if __name__ == "__main__":
    for chosen in sorted(TUTORIALS.glob("*.ipynb")):
        if chosen.stem in (sys.argv[1:] or [chosen.stem]):
            with tempfile.TemporaryDirectory() as place:
                tutorial = read(chosen)
                execute(tutorial, Path(place))
            nbformat.write(tutorial, chosen)
