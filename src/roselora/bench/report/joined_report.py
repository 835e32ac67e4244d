"""The report of a fine-tuning benchmark in several parts, such as GLUE's sets: one over all, and each part's own."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from roselora.bench.metrics.run_summary import OURS
from roselora.bench.records.run_files import BASE, HEAD
from roselora.bench.report.cells import difference_cell, estimate_cell, optional
from roselora.bench.report.report_files import failed_runs_section, section, write_report_files
from roselora.bench.report.tuning_report import write_tuning_report
from roselora.bench.report.tuning_summary import TuningSummary, read_summary
from roselora.markdown import NOTHING, code, count, rate, table, text


def write_joined_report(folder: Path, title: str) -> list[Path]:
    """Write each part's report and one over all parts that the folder holds, in the order of their training data.

    Returns:
        The files that were written, the joined ones first.

    Raises:
        FileFormatError: a part is damaged.
        OSError: a file cannot be written.
    """
    folders = sorted(path.parent for path in folder.glob(f"*/{HEAD}"))
    read = [(path.name, read_summary(path)) for path in folders]
    parts = dict(sorted(read, key=lambda part: (part[1].head.lessons, part[0])))
    document = {name: {"command": part.head.command, **part.document()} for name, part in parts.items()}
    joined = write_report_files(folder, _sections(title, parts), document, {})
    return [*joined, *(path for part in folders for path in write_tuning_report(part))]


def _sections(title: str, parts: Mapping[str, TuningSummary]) -> list[str]:
    methods = list(dict.fromkeys(row.method for part in parts.values() for row in part.methods))
    columns = ["method", *(f"{name} ({count(part.head.lessons)} records)" for name, part in parts.items())]
    compared = {one.method for part in parts.values() for one in part.differences}
    heads = [part.head for part in parts.values()]
    facts = dict.fromkeys(
        [
            *(("command", code(head.command)) for head in heads),
            *(("model", f"{text(head.model)}, SHA-256 of its weights {code(head.model_sha256)}") for head in heads),
        ]
    )

    def rows(names: list[str], cell: Callable[[TuningSummary, str], str]) -> list[list[str]]:
        return [[name, *(cell(part, name) for part in parts.values())] for name in names]

    scores = [[*row, _average(parts, row[0])] for row in rows(methods, _score)]
    rows_of_differences = rows([method for method in methods if method in compared], _difference)
    failures = [replace(one, at=f"{name}, {one.at}") for name, part in parts.items() for one in part.head.failures]
    return [
        f"# Fine-tuning benchmark: {text(title)}",
        table(["", ""], facts),
        section(
            "Scores",
            table([*columns, "average"], scores),
            "For one test set its score with the 95% interval and n, for several their plain mean; each part's own "
            "report says what it is and how it was reached: "
            + ", ".join(f"[{name}]({name}/report.md)" for name in parts)
            + ".",
        ),
        section(
            f"{OURS} minus each other method",
            table(columns, rows_of_differences) if rows_of_differences else "There is nothing to compare yet.",
            "Over the same questions, with the paired bootstrap's 95% interval.",
        ),
        failed_runs_section(failures),
        section("Entries changed", table(columns, rows([name for name in methods if name != BASE], _entries))),
    ]


def _score(part: TuningSummary, method: str) -> str:
    row = part.method(method)
    if row is None or not row.sets:
        return NOTHING
    if len(part.head.asked) == 1:
        return estimate_cell(next(iter(row.sets.values())).score)
    return optional(row.average, rate)


def _average(parts: Mapping[str, TuningSummary], method: str) -> str:
    """Over the parts, if the method has a score in each."""
    rows = [part.method(method) for part in parts.values()]
    averages = [row.average for row in rows if row is not None and row.average is not None]
    return rate(sum(averages) / len(averages)) if len(averages) == len(parts) else NOTHING


def _difference(part: TuningSummary, method: str) -> str:
    return difference_cell(next((one for one in part.differences if one.method == method), None))


def _entries(part: TuningSummary, method: str) -> str:
    row = part.method(method)
    return NOTHING if row is None else optional(row.entries_changed, count)
