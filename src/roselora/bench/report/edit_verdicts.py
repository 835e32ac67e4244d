"""Where our methods lose and win, in sentences made from the paired comparisons and the costs."""

from collections.abc import Sequence

from roselora.bench.metrics.paired_comparison import LEAST_CASES, Comparison
from roselora.bench.metrics.run_summary import RunSummary
from roselora.bench.report.cells import optional
from roselora.bench.report.report_files import section
from roselora.markdown import bounds, number, rate, text

NAMES = {
    "behind_sentence": "reliability behind a sentence",
    "nearest": "nearest question kept",
    "same_subject": "same subject kept",
    "kl": "KL",
}

COSTS = {
    "seconds": ("time per edit", "more", "less", 1.25),
    "peak_bytes": ("peak memory", "more", "less", 1.25),
    "entries": ("entries changed", "more", "fewer", 1.0),
}
"""What each cost is called, the words for more and less of it, and the smallest ratio that is mentioned: measured costs
also depend on what else the machine does."""


def verdict_sections(run: RunSummary) -> list[str]:
    """For each of our methods: where it loses, wins, shows no difference, and cannot be compared."""
    return [found for ours in run.ours for found in _sections(run, ours)]


def _sections(run: RunSummary, ours: str) -> list[str]:
    name, comparisons = text(ours), [item for item in run.comparisons if item.ours == ours]
    if not comparisons:
        was_run = any(row.method == ours and row.edits for row in run.methods)
        why = "is the only method of this run" if was_run else "has no records in this run"
        return [section(f"Where {name} loses and wins", f"{name} {why}, so there is nothing to compare.")]
    unknown = [item for item in comparisons if item.verdict == "cannot be said"]
    judged = len(comparisons) - len(unknown)
    none = f"In none of the {judged} comparisons that can be judged." if judged else "No comparison can be judged."

    def lines(verdict: str, words: str) -> str:
        found = [item for item in comparisons if item.verdict == verdict]
        return _by_metric([(item, _difference(item, words)) for item in found]) or none

    intro = (
        f"{name} against each other method, case by case; differences have the paired bootstrap's 95% interval (seed "
        f"{run.bootstrap_seed}). {name} loses or wins where the interval leaves out 0 and, where cases differ by "
        f"whole points only, the exact sign test is below 5% too. With {len(comparisons)} comparisons some would come "
        "out this way by chance; there is no correction for multiple comparisons."
    )
    return [
        section(f"Where {name} loses", intro, lines("loses", "loses to"), _costs_against(run, ours, dearer=True)),
        section(f"Where {name} wins", lines("wins", "beats"), _costs_against(run, ours, dearer=False)),
        section(
            f"Where {name} shows no difference",
            lines("no difference seen", "shows no difference beyond the interval from"),
        ),
        section(f"Where {name} cannot be compared", _unknown(unknown, comparisons)) if unknown else "",
    ]


def _by_metric(items: Sequence[tuple[Comparison, str]]) -> str:
    """One line for each comparison, those of one metric and form together."""
    names = list(dict.fromkeys(_name(item) for item, _ in items))
    return "\n".join(f"- {line}" for item, line in sorted(items, key=lambda pair: names.index(_name(pair[0]))))


def _difference(item: Comparison, words: str) -> str:
    show = number if item.metric == "kl" else rate
    ours, theirs, difference = (optional(mean, show) for mean in (item.our_mean, item.other_mean, item.difference))
    return (
        f"**{_name(item)}** {words} {text(item.other)}: {ours} against {theirs}, difference {difference} "
        f"{bounds(item.low, item.high, show)}, n {item.n}"
    )


def _costs_against(run: RunSummary, ours: str, *, dearer: bool) -> str:
    """One line for each cost of which our method takes more, or less, than some other method."""
    rows = {row.method: row.costs for row in run.methods}
    lines = []
    for cost, (name, more, less, ratio) in COSTS.items():
        if cost not in rows[ours]:
            continue
        mine = rows[ours][cost].median
        others = []
        for method, costs in rows.items():
            if cost in costs:
                greater, smaller = (mine, costs[cost].median) if dearer else (costs[cost].median, mine)
                if greater > smaller and greater >= ratio * smaller:
                    others.append(text(method))
        if others:
            lines.append(f"- {more if dearer else less} **{name}** (by the medians below) than {', '.join(others)}")
    return "\n".join(lines)


def _unknown(items: Sequence[Comparison], compared: Sequence[Comparison]) -> str:
    """Why comparisons cannot be judged, each reason once, with the metrics and methods that it holds for."""
    not_finite = [item for item in items if item.non_finite]
    no_case = [item for item in items if item.n == 0]
    too_few = [item for item in items if item.n and not item.non_finite]
    counts = [item.n for item in too_few]
    cases = " to ".join(str(n) for n in dict.fromkeys((min(counts), max(counts)))) if counts else ""
    few = f"fewer than {LEAST_CASES} cases (here {cases}) are too few for the bootstrap"
    if len(too_few) == len(compared):
        return f"In anything: {few}."
    others = list(dict.fromkeys(item.other for item in compared))
    parts = (
        _grouped(no_case, others, "no case in which both have it"),
        _by_metric([(item, _non_finite(item)) for item in not_finite]),
        _grouped(too_few, others, few),
    )
    return "\n".join(part for part in parts if part)


def _grouped(items: Sequence[Comparison], others: Sequence[str], reason: str) -> str:
    """One line for all metrics that cannot be compared with the same methods."""
    by_metric: dict[str, list[str]] = {}
    for item in items:
        by_metric.setdefault(_name(item), []).append(item.other)
    by_methods: dict[str, list[str]] = {}
    for name, found in by_metric.items():
        against = "every other method" if found == others and len(others) > 1 else ", ".join(map(text, found))
        by_methods.setdefault(against, []).append(f"**{name}**")
    return "\n".join(f"- {', '.join(names)} against {against}: {reason}" for against, names in by_methods.items())


def _non_finite(item: Comparison) -> str:
    return (
        f"**{_name(item)}** against {text(item.other)}: {item.non_finite} of {item.n} differences are not finite "
        f"(means {number(item.our_mean)} and {number(item.other_mean)})"
    )


def _name(item: Comparison) -> str:
    return f"{NAMES.get(item.metric, item.metric)}, {item.form}"
