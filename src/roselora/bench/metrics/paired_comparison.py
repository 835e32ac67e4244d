"""One method against the others on the same cases, and what may be said of it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from roselora.bench.metrics.estimates import BOOTSTRAP_SEED, mean_share
from roselora.bench.metrics.intervals import bootstrap_interval, sign_test
from roselora.bench.metrics.method_summary import Questions, reliability, unrelated
from roselora.bench.records.edit_bench_records import EditRecord

LEAST_CASES = 10
"""With fewer cases the bootstrap's interval is too narrow to conclude from: of one case it has no width at all."""

LEVEL = 0.05

Verdict = Literal["wins", "loses", "no difference seen", "cannot be said"]

LOWER_IS_BETTER = frozenset({"kl"})


@dataclass(frozen=True)
class Comparison:
    """Ours less another method's, over the cases where both have the metric.

    Attributes:
        ours, other, metric: whose, and of what.
        n: the cases; ``non_finite``: how many of the differences are inf or NaN.
        our_mean, other_mean: over these cases, and ``difference`` the mean of the differences; None without cases.
        low, high: the paired bootstrap's 95% interval of the difference; None where it has none.
        verdict: of our method. It wins or loses where the interval leaves out 0, and where cases only differ by a whole
            point, the exact sign test (McNemar's) is below 5% too, for few such cases make the bootstrap too sure;
            ``cannot be said`` with fewer than ``LEAST_CASES`` cases or with differences that are not finite.
    """

    ours: str
    other: str
    metric: str
    n: int
    non_finite: int
    our_mean: float | None
    other_mean: float | None
    difference: float | None
    low: float | None
    high: float | None
    verdict: Verdict


def compare(records: Sequence[EditRecord], ours: str, *, seed: int = BOOTSTRAP_SEED) -> list[Comparison]:
    """Our method against each other one, in reliability, generalization, portability, locality and KL.

    Cases are drawn anew with the two methods' values together (the paired bootstrap). Failed edits count as in
    :func:`roselora.bench.metrics.method_summary.summarize`. Nothing is corrected for the number of comparisons.

    Returns:
        Method by method in the records' order; empty if ours has no records.
    """
    questions = Questions(records)
    metrics: dict[str, Callable[[EditRecord], float | None]] = {
        "reliability": reliability,
        "generalization": questions.generalization,
        "portability": questions.mean_portability,
        "locality": lambda record: None if record.scores is None else mean_share(unrelated(record.scores.locality)),
        "kl": lambda record: None if record.scores is None else record.scores.kl,
    }
    mine = {record.case: record for record in records if record.method == ours}
    if not mine:
        return []
    comparisons = []
    for other in dict.fromkeys(record.method for record in records if record.method != ours):
        theirs = {record.case: record for record in records if record.method == other}
        for metric, measure in metrics.items():
            pairs = [(measure(mine[case]), measure(theirs[case])) for case in mine if case in theirs]
            both = [(a, b) for a, b in pairs if a is not None and b is not None]
            comparisons.append(_comparison(ours, other, metric, both, seed))
    return comparisons


def _comparison(ours: str, other: str, metric: str, pairs: Sequence[tuple[float, float]], seed: int) -> Comparison:
    n = len(pairs)
    if not pairs:
        return Comparison(ours, other, metric, 0, 0, None, None, None, None, None, "cannot be said")
    differences = [a - b for a, b in pairs]
    non_finite = sum(not math.isfinite(difference) for difference in differences)
    low, high = (None, None) if non_finite else bootstrap_interval(differences, seed=seed)
    return Comparison(
        ours,
        other,
        metric,
        n,
        non_finite,
        our_mean=sum(a for a, _ in pairs) / n,
        other_mean=sum(b for _, b in pairs) / n,
        difference=sum(differences) / n,
        low=low,
        high=high,
        verdict=_verdict(differences, low, high, -1 if metric in LOWER_IS_BETTER else 1),
    )


def _verdict(differences: Sequence[float], low: float | None, high: float | None, sign: int) -> Verdict:
    if low is None or high is None or len(differences) < LEAST_CASES:
        return "cannot be said"
    ups, downs = differences.count(1.0), differences.count(-1.0)
    whole = ups + downs + differences.count(0.0) == len(differences)
    if low <= 0 <= high or (whole and sign_test(ups, downs) >= LEVEL):
        return "no difference seen"
    return "wins" if low * sign > 0 else "loses"
