"""What was tried and what held, by class, at the end of a run."""

from collections import Counter
from pathlib import Path
from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many attacks of each class were tried, and how many held."""
    tried: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            file, _, test = report.nodeid.partition("::")
            if report.when == "call" and "/attacks/" in f"/{file}":
                name = f"{Path(file).stem.removeprefix('test_')}: {test.partition('[')[0].removeprefix('test_')}"
                tried[name] += 1
                held[name] += outcome == "passed"
    if tried:
        terminalreporter.section("attacks")
        for name, count in tried.items():
            terminalreporter.line(f"{count:5} tried, {held[name]:5} held  {name.replace('_', ' ')}")
        terminalreporter.line(f"{tried.total():5} tried, {held.total():5} held  in all")
