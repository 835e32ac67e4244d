"""The report of an editing benchmark in words and tables; every sentence about a result is made from the numbers."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from roselora.evaluation.comparison import LEAST_CASES, Comparison
from roselora.evaluation.record_files import to_json
from roselora.evaluation.records import LOCALITY_TOKENS
from roselora.evaluation.run_summary import RunSummary
from roselora.evaluation.summary import Estimate, MethodSummary
from roselora.reports.numbers import (
    MIB,
    NOTHING,
    bounds,
    capability,
    code,
    estimated,
    number,
    rate,
    spreaded,
    table,
    text,
)

MODES = {
    "single": "single: each edit by itself, on a fresh model",
    "sequential": "sequential: one edit after another on one model, scored after the last",
    "batch": "batch: all edits at once, scored after them",
}

NAMES = {"kl": "KL"}

COSTS = {"seconds": "time per edit", "peak_bytes": "peak memory", "entries": "entries changed"}


def markdown(run: RunSummary, plots: Mapping[str, str]) -> str:
    """The whole report.

    Args:
        plots: what each picture shows, by its file name.
    """
    sections = [
        f"# Editing benchmark: {text(run.head.dataset)}, {text(run.head.model)}, {run.head.mode}",
        _facts(run),
        _scores(run),
        *_verdicts(run),
        *(f"![{shown}]({name})" for name, shown in plots.items()),
        _by_type("Portability by sub-type", run.methods, lambda row: row.portability_by),
        _by_type("Locality by sub-type", run.methods, lambda row: row.locality_by),
        _retention(run),
        _costs(run),
        _failures(run),
        _token_accuracy(run),
        _capability(run),
        _settings(run),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _facts(run: RunSummary) -> str:
    head = run.head
    skipped = f": {', '.join(map(text, head.skipped))}" if head.skipped else ""
    rows = [
        ("command", code(head.command)),
        ("model", f"{text(head.model)}, SHA-256 of its weights `{head.model_sha256}`"),
        ("data", f"{text(head.dataset)}, {code(head.data_file)}, SHA-256 `{head.data_sha256}`"),
        ("mode", MODES[head.mode]),
        ("cases", f"{head.n}, chosen by seed {head.seed}"),
        ("left out as repeated or conflicting", f"{len(head.skipped)}{skipped}"),
        ("versions", ", ".join(f"{text(name)} {text(version)}" for name, version in head.versions.items())),
        ("machine", ", ".join(f"{text(name)}: {text(value)}" for name, value in head.machine.items())),
    ]
    return table(["", ""], rows)


def _scores(run: RunSummary) -> str:
    columns = ["method", "edits", "reliability", "generalization", "portability", "locality", "KL, nats", "fluency"]
    rows = [
        [
            text(row.method),
            str(row.edits) if row.edits == run.head.n else f"{row.edits} of {run.head.n}",
            *map(estimated, (row.reliability, row.generalization, row.portability, row.locality)),
            estimated(row.kl, number),
            estimated(row.fluency, number),
        ]
        for row in run.methods
    ]
    notes = (
        "What the edited model says by itself: mean [95% interval] (n). Intervals are Wilson's where every case scores "
        f"0 or 1, else the percentile bootstrap's over cases (seed {run.bootstrap_seed}). A failed edit counts as 0 in "
        "reliability, generalization and portability, and is left out of the rest; what a case does not ask is never "
        f"counted. Locality compares {LOCALITY_TOKENS} tokens with the base model's. Less KL is better; of the rest, "
        "more. Intervals speak of the choice of cases, not of other seeds or orders of edits."
    )
    if any(row.edits != run.head.n for row in run.methods):
        notes += (
            "\n\n**Not every method has been run on every case**: rows rest on different cases. The comparison below "
            "takes the cases that both methods have."
        )
    return f"## Scores\n\n{table(columns, rows)}\n\n{notes}"


def _verdicts(run: RunSummary) -> list[str]:
    ours = text(run.ours)
    if not run.comparisons:
        why = "has no records in this run" if not _was_run(run, run.ours) else "is the only method of this run"
        return [f"## Where {ours} loses and wins\n\n{ours} {why}, so there is nothing to compare."]
    loses, wins, same, unknown = (
        [item for item in run.comparisons if item.verdict == verdict]
        for verdict in ("loses", "wins", "no difference seen", "cannot be said")
    )
    intro = (
        f"{ours} less each other method, case by case, with the paired bootstrap's 95% interval (seed "
        f"{run.bootstrap_seed}). It loses or wins where the interval leaves out 0. With {len(run.comparisons)} "
        "comparisons some intervals would leave out 0 by chance; nothing is corrected for their number."
    )
    return [
        f"## Where {ours} loses\n\n{intro}\n\n"
        + (_lines(loses, _difference) or f"In none of these comparisons does the interval leave out 0 against {ours}.")
        + _costs_against(run, "more", lambda mine, theirs: mine > theirs),
        f"## Where {ours} wins\n\n"
        + (_lines(wins, _difference) or f"In none of these comparisons does the interval leave out 0 for {ours}.")
        + _costs_against(run, "less", lambda mine, theirs: mine < theirs),
        "## Where no difference is seen\n\n" + (_lines(same, _difference) or "In none of these comparisons."),
        "## What cannot be said\n\n" + _lines(unknown, _unknown) if unknown else "",
    ]


def _costs_against(run: RunSummary, word: str, holds: Callable[[float, float], bool]) -> str:
    """One line for each cost of which ours takes more, or less, than some other method."""
    rows = {row.method: row.costs for row in run.methods}
    lines = []
    for cost, name in COSTS.items():
        if (mine := rows[run.ours].get(cost)) is None:
            continue
        others = [
            text(method) for method, costs in rows.items() if cost in costs and holds(mine.median, costs[cost].median)
        ]
        if others:
            lines.append(f"\n- {word} **{name}** (by the medians below) than {', '.join(others)}")
    return "\n" + "".join(lines) if lines else ""


def _was_run(run: RunSummary, method: str) -> bool:
    return any(row.method == method and row.edits for row in run.methods)


def _lines(comparisons: Iterable[Comparison], line: Callable[[Comparison], str]) -> str:
    ordered: dict[str, list[str]] = {}
    for item in comparisons:
        ordered.setdefault(item.metric, []).append(f"- {line(item)}")
    return "\n".join(entry for entries in ordered.values() for entry in entries)


def _difference(item: Comparison) -> str:
    show = number if item.metric == "kl" else rate
    ours, theirs, difference = (
        NOTHING if value is None else show(value) for value in (item.our_mean, item.other_mean, item.difference)
    )
    return (
        f"**{NAMES.get(item.metric, item.metric)}** against {text(item.other)}: {ours} against {theirs}, difference "
        f"{difference} {bounds(item.low, item.high, show)}, n {item.n}"
    )


def _unknown(item: Comparison) -> str:
    name = f"**{NAMES.get(item.metric, item.metric)}** against {text(item.other)}"
    if item.n == 0:
        return f"{name}: no case in which both have it"
    if item.non_finite:
        means = f"means {number(item.our_mean)} and {number(item.other_mean)}"
        return f"{name}: {item.non_finite} of {item.n} differences are not finite ({means})"
    return f"{_difference(item)}: fewer than {LEAST_CASES} cases are too few for the bootstrap"


def _by_type(title: str, rows: Sequence[MethodSummary], pick: Callable[[MethodSummary], Mapping[str, Estimate]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in pick(row)))
    if not names:
        return ""
    cells = ([text(row.method), *(estimated(pick(row).get(name)) for name in names)] for row in rows)
    return f"## {title}\n\n{table(['method', *(text(name).replace('_', ' ') for name in names)], cells)}"


def _retention(run: RunSummary) -> str:
    if not run.retention:
        return ""
    bins = sorted({(each.youngest, each.oldest) for found in run.retention.values() for each in found})
    by_bin = {
        method: {(each.youngest, each.oldest): each.reliability for each in found}
        for method, found in run.retention.items()
    }
    rows = (
        [f"{low} to {high}", *(estimated(found.get((low, high))) for found in by_bin.values())] for low, high in bins
    )
    return (
        "## Retention by age of edit\n\nReliability at the end, by how many edits came after; Wilson's intervals.\n\n"
        + table(["edits after", *map(text, by_bin)], rows)
    )


def _costs(run: RunSummary) -> str:
    rows = [
        [
            text(row.method),
            spreaded(row.costs.get("seconds")),
            spreaded(row.costs.get("peak_bytes"), MIB),
            spreaded(row.costs.get("entries")),
            spreaded(row.costs.get("steps")),
        ]
        for row in run.methods
    ]
    return "## Cost per edit\n\nMedian (least to most; n), of edits that did not fail.\n\n" + table(
        ["method", "seconds", "peak memory beyond the model, MiB", "entries changed", "steps"], rows
    )


def _failures(run: RunSummary) -> str:
    lines = []
    for row in run.methods:
        if row.edits == 0:
            lines.append(f"- {text(row.method)} has not been run.")
        elif row.failure is not None:
            every = "every edit failed" if row.failed == row.edits else f"{row.failed} of {row.edits} edits failed"
            lines.append(f"- {text(row.method)}: {every}; most often ({row.failure_count}): {text(row.failure)}")
    return "## Failed edits\n\n" + ("\n".join(lines) or "None.")


def _token_accuracy(run: RunSummary) -> str:
    names = ("reliability", "generalization", "portability", "locality")
    rows = [[text(row.method), *(estimated(row.token_accuracy.get(name)) for name in names)] for row in run.methods]
    return (
        "## Token accuracy, only for comparison with published tables\n\n"
        "EasyEdit's teacher-forced scores: the share of "
        "the answer's tokens whose argmax is right when the right tokens before them are given. They give partial "
        "credit and leak the answer's length, so they flatter. Failed edits are left out.\n\n"
        + table(["method", *names], rows)
    )


def _capability(run: RunSummary) -> str:
    found = run.head.capability
    names = list(dict.fromkeys(name for measured in found.values() for name in measured))
    if not names:
        return ""
    order = [*(["base"] if "base" in found else []), *(method for method in found if method != "base")]
    rows = (
        [
            "before (base)" if method == "base" else f"after {text(method)}",
            *(capability(found[method].get(name)) for name in names),
        ]
        for method in order
    )
    return "## Capability, before and after all edits\n\n" + table(["model", *map(text, names)], rows)


def _settings(run: RunSummary) -> str:
    lines = (
        f"- {text(method)}: `{json.dumps(to_json(settings), ensure_ascii=False)}`"
        for method, settings in run.head.methods.items()
    )
    return "## Settings of each method\n\n" + "\n".join(lines)
