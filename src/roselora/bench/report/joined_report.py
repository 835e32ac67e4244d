"""The report of a fine-tuning benchmark in several parts, such as GLUE's sets: one over all, and each part's own."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from roselora.bench.metrics.learning_rate_choice import chosen_units
from roselora.bench.metrics.run_summary import OURS
from roselora.bench.metrics.tuning_scores import (
    Difference,
    MethodScore,
    differences,
    method_scores,
)
from roselora.bench.records.run_files import BASE, HEAD, as_json, read_head, read_records
from roselora.bench.records.tuning_bench_records import Answered, TrainedUnit, TuningHead
from roselora.bench.report.estimate_text import estimated
from roselora.bench.report.failed_runs import failed_runs
from roselora.bench.report.tuning_report import write_tuning_report
from roselora.files import write_atomically
from roselora.markdown import NOTHING, code, count, rate, table, text


@dataclass(frozen=True)
class _Part:
    head: TuningHead
    rows: Mapping[str, MethodScore]
    ours_less: Mapping[str, Difference]


def write_joined_report(folder: Path, title: str) -> list[Path]:
    """Write every part's report and the one over all parts that the folder holds, in the order of their training data.

    Returns:
        the files that were written, the joined ones first.

    Raises:
        FileFormatError: a part is none.
        OSError: a file cannot be written.
    """
    folders = sorted(path.parent for path in folder.glob(f"*/{HEAD}"))
    parts = {path.name: _read(path) for path in folders}
    parts = dict(sorted(parts.items(), key=lambda item: (item[1].head.lessons, item[0])))
    document = {
        name: {
            "command": part.head.command,
            "methods": [as_json(row) for row in part.rows.values()],
            f"{OURS}_less": [as_json(one) for one in part.ours_less.values()],
        }
        for name, part in parts.items()
    }
    write_atomically(folder / "report.md", _markdown(title, parts).encode())
    write_atomically(folder / "report.json", json.dumps(document, indent=2, allow_nan=False).encode() + b"\n")
    own = [path for part in folders for path in write_tuning_report(part)]
    return [folder / "report.md", folder / "report.json", *own]


def _read(folder: Path) -> _Part:
    head = read_head(folder, TuningHead)
    answers = read_records(folder, Answered)
    units = chosen_units(read_records(folder, TrainedUnit), head.question_seed, head.rates)
    rows = method_scores(answers, units, (BASE, *head.settings), tuple(head.asked))
    return _Part(head, {row.method: row for row in rows}, {one.method: one for one in differences(answers, OURS)})


def _markdown(title: str, parts: Mapping[str, _Part]) -> str:
    methods = list(dict.fromkeys(method for part in parts.values() for method in part.rows))
    columns = [f"{name} ({count(part.head.lessons)} records)" for name, part in parts.items()]
    scores = [
        [method, *(_score(part, method) for part in parts.values()), _average(parts, method)] for method in methods
    ]
    others = [
        method for method in methods if method != OURS and any(method in part.ours_less for part in parts.values())
    ]
    less = [[method, *(_less(part, method) for part in parts.values())] for method in others]
    entries = [[method, *(_entries(part, method) for part in parts.values())] for method in methods if method != BASE]
    commands = dict.fromkeys(part.head.command for part in parts.values())
    models = dict.fromkeys((part.head.model, part.head.model_sha256) for part in parts.values())
    sections = [
        f"# Fine-tuning benchmark: {text(title)}",
        table(
            ["", ""],
            [
                *(("command", code(command)) for command in commands),
                *(("model", f"{text(name)}, SHA-256 of its weights {code(sha256)}") for name, sha256 in models),
            ],
        ),
        "## Scores",
        table(["method", *columns, "average"], scores),
        "Of one test set its score with the 95% interval and n, of several their plain mean; what each is, and how it "
        "was reached, is in the part's own report: " + ", ".join(f"[{name}]({name}/report.md)" for name in parts) + ".",
        f"## {OURS} less each other method",
        table(["method", *columns], less) if less else "There is nothing to compare yet.",
        "Over the same questions, with the paired bootstrap's 95% interval.",
        *failed_runs(
            [replace(one, at=f"{name}, {one.at}") for name, part in parts.items() for one in part.head.failures]
        ),
        "## Entries changed",
        table(["method", *columns], entries),
    ]
    return "\n\n".join(sections) + "\n"


def _score(part: _Part, method: str) -> str:
    row = part.rows.get(method)
    if row is None or not row.sets:
        return NOTHING
    if len(part.head.asked) == 1:
        return estimated(next(iter(row.sets.values())).score)
    return NOTHING if row.average is None else rate(row.average)


def _average(parts: Mapping[str, _Part], method: str) -> str:
    """Over the parts, where the method has all of them."""
    averages = [row.average for part in parts.values() if (row := part.rows.get(method)) and row.average is not None]
    return rate(sum(averages) / len(averages)) if len(averages) == len(parts) else NOTHING


def _less(part: _Part, method: str) -> str:
    one = part.ours_less.get(method)
    return NOTHING if one is None else f"{rate(one.value)} [{rate(one.low)}, {rate(one.high)}]"


def _entries(part: _Part, method: str) -> str:
    row = part.rows.get(method)
    return NOTHING if row is None or row.entries_changed is None else count(row.entries_changed)
