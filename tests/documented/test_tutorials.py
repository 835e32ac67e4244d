"""Every tutorial is run from its first cell to its last, and says what its committed outputs say."""

import re
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from docs.site_hooks import notebook_markdown
from roselora.models.demo_model import demo_model_is_ready
from tests.documented.notebooks import TUTORIALS, VARIES, code_cells, execute, read, texts, words

MACHINE = re.compile(r"/(home|root|tmp|Users)/|\x1b")
"""The beginning of a path of somebody's own, or a colour."""

PATHS = sorted(TUTORIALS.glob("*.ipynb"))


def test_there_are_tutorials() -> None:
    assert [path.stem for path in PATHS] == ["compare-methods", "correct-facts", "fine-tune"]


@pytest.mark.demo
@pytest.mark.timeout(900)
@pytest.mark.skipif(not demo_model_is_ready(), reason="the demo model has not been fetched yet: run `make demo` once.")
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_tutorial_runs_and_says_what_is_committed(path: Path, tmp_path: Path) -> None:
    committed = read(path)
    again = deepcopy(committed)
    execute(again, tmp_path)
    for before, now in zip(code_cells(committed), code_cells(again), strict=True):
        if VARIES in before.metadata.get("tags", []):
            assert len(before.outputs) == len(now.outputs), before.id
        else:
            assert words(before) == words(now), before.id


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_committed_outputs_are_of_one_run_and_name_no_machine(path: Path) -> None:
    cells = code_cells(read(path))
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    for cell in cells:
        for output, text in zip(cell.outputs, texts(cell), strict=True):
            assert output.output_type != "error"
            assert output.get("name") != "stderr"
            assert not MACHINE.search(text)


@pytest.mark.parametrize("source", ["assert 1 + 1 == 3", "%%bash\nroselora no-such-verb"])
def test_a_tutorial_whose_code_breaks_is_found(source: str, tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError):
        execute(new_notebook(cells=[new_code_cell(source)]), tmp_path)


def test_a_notebook_is_shown_with_its_commands_and_outputs() -> None:
    printed = new_output("stream", text="4\n")
    table = new_output("display_data", {"text/plain": "<Markdown>", "text/markdown": "| a |"})
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell("2 + 2", outputs=[printed, table]),
        new_code_cell("%%bash\nls"),
    ]
    assert notebook_markdown(nbformat.writes(new_notebook(cells=cells))) == (
        '# Title\n\n```python\n2 + 2\n```\n\n```text title="Output"\n4\n```\n\n| a |\n\n```bash\nls\n```\n'
    )


def test_other_numbers_are_the_same_output_and_other_words_are_not() -> None:
    def cell(text: str) -> NotebookNode:
        return new_code_cell(outputs=[new_output("stream", text=text)])

    assert words(cell("4fefe8d0cd8f  holds, 0.065%")) == words(cell("0cd8f4fefe8d holds, 1.2e-05%"))
    assert words(cell("Paris")) != words(cell("Lyon"))
