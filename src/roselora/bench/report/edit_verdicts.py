"""Where our method loses and where it wins, in sentences made from the paired comparisons and the costs."""

from collections.abc import Callable, Iterable, Sequence

from roselora.bench.metrics.paired_comparison import LEAST_CASES, Comparison
from roselora.bench.metrics.run_summary import RunSummary
from roselora.markdown import NOTHING, bounds, number, rate, text

NAMES = {"kl": "KL"}

COSTS = {
    "seconds": ("time per edit", "more", "less"),
    "peak_bytes": ("peak memory", "more", "less"),
    "entries": ("entries changed", "more", "fewer"),
}
"""What each cost is called, and the words for more and less of it."""

LEAST_RATIO = {"seconds": 1.25, "peak_bytes": 1.25}
"""Measured costs depend on what else the machine does: a difference below this is not spoken of."""


def verdicts(run: RunSummary) -> list[str]:
    """The sections on where each of ours loses, wins, no difference is seen, and of what nothing can be said."""
    return [section for ours in run.ours for section in _verdicts(run, ours)]


def _verdicts(run: RunSummary, ours: str) -> list[str]:
    name, comparisons = text(ours), [item for item in run.comparisons if item.ours == ours]
    if not comparisons:
        why = "has no records in this run" if not _was_run(run, ours) else "is the only method of this run"
        return [f"## Where {name} loses and wins\n\n{name} {why}, so there is nothing to compare."]
    loses, wins, same, unknown = (
        [item for item in comparisons if item.verdict == verdict]
        for verdict in ("loses", "wins", "no difference seen", "cannot be said")
    )
    judged = len(comparisons) - len(unknown)
    none = f"In none of the {judged} comparisons that can be judged." if judged else "No comparison can be judged."
    return [
        f"## Where {name} loses\n\n{_intro(run, ours, len(comparisons))}\n\n{_lines(loses, _difference) or none}"
        + _costs_against(run, ours, dearer=True),
        f"## Where {name} wins\n\n{_lines(wins, _difference) or none}" + _costs_against(run, ours, dearer=False),
        f"## Where no difference of {name} is seen\n\n{_lines(same, _difference) or none}",
        f"## What cannot be said of {name}\n\n{_unknown(unknown, comparisons)}" if unknown else "",
    ]


def _intro(run: RunSummary, ours: str, comparisons: int) -> str:
    return (
        f"{text(ours)} less each other method, case by case, with the paired bootstrap's 95% interval (seed "
        f"{run.bootstrap_seed}). It loses or wins where the interval leaves out 0 and, where cases differ by whole "
        "points only, the exact sign test is below 5% too. With "
        f"{comparisons} comparisons some would come out so by chance; nothing is corrected for their number."
    )


def _costs_against(run: RunSummary, ours: str, *, dearer: bool) -> str:
    """One line for each cost of which ours takes more, or less, than some other method."""
    rows = {row.method: row.costs for row in run.methods}
    lines = []
    for cost, (name, more, less) in COSTS.items():
        if (mine := rows[ours].get(cost)) is None:
            continue
        ratio = LEAST_RATIO.get(cost, 1.0)
        medians = {method: costs[cost].median for method, costs in rows.items() if cost in costs}
        others = [
            text(method)
            for method, theirs in medians.items()
            if (_exceeds(mine.median, theirs, ratio) if dearer else _exceeds(theirs, mine.median, ratio))
        ]
        if others:
            lines.append(f"\n- {more if dearer else less} **{name}** (by the medians below) than {', '.join(others)}")
    return "\n" + "".join(lines) if lines else ""


def _exceeds(more: float, less: float, ratio: float) -> bool:
    return more > less and more >= ratio * less


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
        f"**{_name(item)}** against {text(item.other)}: {ours} against {theirs}, difference "
        f"{difference} {bounds(item.low, item.high, show)}, n {item.n}"
    )


def _unknown(items: Sequence[Comparison], compared: Sequence[Comparison]) -> str:
    """Why nothing can be said, each reason once, with what it holds for; in one sentence if it holds for all."""
    not_finite = [item for item in items if item.non_finite]
    no_case = [item for item in items if item.n == 0]
    too_few = [item for item in items if item.n and not item.non_finite]
    few = f"fewer than {LEAST_CASES} cases (here {_cases(too_few)}) are too few for the bootstrap"
    if len(too_few) == len(compared):
        return f"Anything: {few}."
    others = list(dict.fromkeys(item.other for item in compared))
    parts = (
        _grouped(no_case, others, "no case in which both have it"),
        _lines(not_finite, _non_finite),
        _grouped(too_few, others, few),
    )
    return "\n".join(part for part in parts if part)


def _grouped(items: Sequence[Comparison], others: Sequence[str], reason: str) -> str:
    """One line for the metrics that share their methods; all the ``others`` are not named one by one."""
    by_metric: dict[str, list[str]] = {}
    for item in items:
        by_metric.setdefault(_name(item), []).append(item.other)
    by_methods: dict[str, list[str]] = {}
    for name, found in by_metric.items():
        against = "every other method" if found == others and len(others) > 1 else ", ".join(map(text, found))
        by_methods.setdefault(against, []).append(f"**{name}**")
    return "\n".join(f"- {', '.join(names)} against {against}: {reason}" for against, names in by_methods.items())


def _cases(items: Sequence[Comparison]) -> str:
    counts = sorted({item.n for item in items})
    return " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1]))) if counts else ""


def _non_finite(item: Comparison) -> str:
    return (
        f"**{_name(item)}** against {text(item.other)}: {item.non_finite} of {item.n} differences are not finite "
        f"(means {number(item.our_mean)} and {number(item.other_mean)})"
    )


def _name(item: Comparison) -> str:
    return NAMES.get(item.metric, item.metric)
