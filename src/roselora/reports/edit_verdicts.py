"""Where our method loses and where it wins, in sentences made from the paired comparisons and the costs."""

from collections.abc import Callable, Iterable

from roselora.evaluation.comparison import LEAST_CASES, Comparison
from roselora.evaluation.run_summary import RunSummary
from roselora.reports.numbers import NOTHING, bounds, number, rate, text

NAMES = {"kl": "KL"}

COSTS = {"seconds": "time per edit", "peak_bytes": "peak memory", "entries": "entries changed"}


def verdicts(run: RunSummary) -> list[str]:
    """The sections on where ours loses, where it wins, where no difference is seen, and of what nothing can be said."""
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
