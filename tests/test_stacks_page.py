"""docs/stacks.md promises a test in every cell; each must be there to be run."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REFERENCE = re.compile(r"`(tests/\S+\.py::\w+)`|`(\[[\w-]+\])`")


def promised() -> set[str]:
    """Every test that the page names: a parameter in backticks belongs to the test named before it in its line."""
    names = set()
    for line in (ROOT / "docs" / "stacks.md").read_text(encoding="utf-8").splitlines():
        test = None
        for reference in REFERENCE.finditer(line):
            test = reference[1] or test
            if test is not None:
                names.add(test + (reference[2] or ""))
    return names


class Collector:
    def pytest_collection_modifyitems(self, items: Sequence[pytest.Item]) -> None:
        self.names = {item.nodeid for item in items}
        self.names |= {name.partition("[")[0] for name in self.names}


def test_every_test_that_the_page_names_exists() -> None:
    names = promised()
    assert len(names) > 100
    files = sorted({name.partition("::")[0] for name in names})
    collector = Collector()
    options = ["--collect-only", "-qq", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    assert pytest.main([*options, *(str(ROOT / file) for file in files)], plugins=[collector]) == 0
    assert names - collector.names == set()
