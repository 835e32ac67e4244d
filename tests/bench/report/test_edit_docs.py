from pathlib import Path

import pytest

from roselora.bench.methods.editing_methods import METHODS
from roselora.bench.tasks.counterfact import NEIGHBORHOOD
from roselora.bench.tasks.edit_case import SAME_ANSWER
from roselora.bench.tasks.zsre import REASONING, UNRELATED

PAGE = Path(__file__).parents[3] / "docs" / "editing-benchmark.md"


def rows(page: str) -> dict[str, list[str]]:
    """The cells of every row of a table, by the first."""
    found = {}
    for line in page.splitlines():
        if line.startswith("| "):
            cells = [cell.strip() for cell in line[1:-1].split(" |")]
            found[cells[0].strip("`")] = cells
    return found


@pytest.mark.parametrize("name", METHODS)
def test_the_page_names_each_method_with_its_paper_as_the_command_does(name: str) -> None:
    paper, *_ = METHODS[name].paper.split(";")
    assert rows(PAGE.read_text())[name][2] == ("" if paper == "none" else paper)


@pytest.mark.parametrize("subtype", [SAME_ANSWER, NEIGHBORHOOD, REASONING, UNRELATED])
def test_the_page_explains_each_sub_type(subtype: str) -> None:
    assert subtype.replace("_", " ") in rows(PAGE.read_text())
