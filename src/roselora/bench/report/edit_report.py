"""The report of an editing benchmark: Markdown, JSON and plots in one folder."""

import json
from collections.abc import Sequence
from pathlib import Path

from roselora.bench.metrics.estimates import BOOTSTRAP_SEED
from roselora.bench.metrics.run_summary import summarize_run
from roselora.bench.records.edit_bench_records import EditHead, EditRecord
from roselora.bench.records.run_files import as_json
from roselora.bench.report.edit_markdown import markdown
from roselora.bench.report.edit_plots import plot_costs, plot_reliability_by_age, plot_scores
from roselora.files import write_atomically

MARKDOWN = "report.md"
JSON = "report.json"


def write_report(
    head: EditHead, records: Sequence[EditRecord], folder: Path, *, seed: int = BOOTSTRAP_SEED
) -> list[Path]:
    """Write what a run shows, be it finished or not; reports that are there are replaced.

    ``report.json`` holds all that ``report.md`` shows, and the head. A plot without anything to show is not written.

    Args:
        seed: of the bootstrap.

    Returns:
        The files that were written.

    Raises:
        OSError: one of them cannot be written.
    """
    run = summarize_run(head, records, seed=seed)
    drawn = {
        "scores.png": ("Reliability against locality of each method", plot_scores(run)),
        "reliability_by_age.png": ("Reliability by age of edit", plot_reliability_by_age(run)),
        "costs.png": ("Time, memory and changed entries", plot_costs(run)),
    }
    pictures = {name: (shown, picture) for name, (shown, picture) in drawn.items() if picture is not None}
    files = {name: picture for name, (_, picture) in pictures.items()}
    files[MARKDOWN] = markdown(run, {name: shown for name, (shown, _) in pictures.items()}).encode()
    files[JSON] = json.dumps(as_json(run), indent=2).encode() + b"\n"
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]
