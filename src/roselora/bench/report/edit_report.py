"""The report of an editing benchmark: Markdown, JSON and plots in one folder."""

from collections.abc import Sequence
from pathlib import Path

from roselora.bench.metrics.run_summary import summarize_run
from roselora.bench.records.edit_bench_records import EditHead, EditRecord
from roselora.bench.report.edit_markdown import edit_sections
from roselora.bench.report.edit_plots import plot_costs, plot_reliability_by_age, plot_scores
from roselora.bench.report.report_files import write_report_files
from roselora.training.plotting import png


def write_report(head: EditHead, records: Sequence[EditRecord], folder: Path) -> list[Path]:
    """Write what a run shows, finished or not; a report that is there is replaced.

    ``report.json`` holds everything that ``report.md`` shows, and the head. A plot that would be empty is not written.

    Returns:
        The files that were written.

    Raises:
        OSError: one of them cannot be written.
    """
    run = summarize_run(head, records)
    plots = (
        ("scores.png", "Reliability against locality of each method", plot_scores(run)),
        ("reliability_by_age.png", "Reliability by age of edit", plot_reliability_by_age(run)),
        ("costs.png", "Time, memory and changed entries", plot_costs(run)),
    )
    captions = {name: caption for name, caption, figure in plots if figure is not None}
    pictures = {name: png(figure) for name, _, figure in plots if figure is not None}
    return write_report_files(folder, edit_sections(run, captions), run, pictures)
