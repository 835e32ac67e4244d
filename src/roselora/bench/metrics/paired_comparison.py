"""One method against the others on the same cases, and what can be concluded."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from roselora.bench.metrics.edit_values import EditValues
from roselora.bench.metrics.estimates import BOOTSTRAP_SEED, bootstrap_interval
from roselora.bench.records.edit_bench_records import EditRecord, FormName

LEAST_CASES = 10
"""With fewer cases the bootstrap's interval is too narrow to conclude from: of one case it has no width at all."""

LEVEL = 0.05

Verdict = Literal["wins", "loses", "no difference seen", "cannot be said"]

COMPARED = (
    "reliability",
    "behind_sentence",
    "generalization",
    "portability",
    "locality",
    "nearest",
    "same_subject",
    "kl",
)
LOWER_IS_BETTER = frozenset({"kl"})


@dataclass(frozen=True)
class Comparison:
    """Our method minus another one, over the cases where both have a value of the metric.

    Attributes:
        ours, other, metric, form: what is compared.
        n: how many cases; ``non_finite``: how many of the differences are inf or NaN.
        our_mean, other_mean: over these cases; ``difference``: the mean of the differences. None without cases.
        low, high: the paired bootstrap's 95% interval of the difference; None where there is none.
        verdict: on our method. It wins or loses where the interval excludes 0. If the cases differ only by whole
            points, the exact sign test (McNemar's) must be below 5% too, because with few such cases the bootstrap is
            too sure. ``cannot be said`` with fewer than ``LEAST_CASES`` cases or with a difference that is not finite.
    """

    ours: str
    other: str
    metric: str
    form: FormName
    n: int
    non_finite: int
    our_mean: float | None
    other_mean: float | None
    difference: float | None
    low: float | None
    high: float | None
    verdict: Verdict


def compare(
    records: Sequence[EditRecord],
    ours: str,
    *,
    forms: Sequence[FormName] = ("bare",),
    seed: int = BOOTSTRAP_SEED,
) -> list[Comparison]:
    """Our method against each other one, in each metric of `COMPARED` that the run has measured, in each form.

    Cases are resampled with the values of both methods together (the paired bootstrap). Failed edits count as in
    `EditValues`. There is no correction for the number of comparisons.

    Returns:
        Method by method in the records' order; empty if ours has no records.
    """
    values = {form: EditValues(records, form).by_metric for form in forms}
    asked = [
        (form, metric)
        for form, by_metric in values.items()
        for metric in COMPARED
        if any(by_metric[metric](record) is not None for record in records)
    ]
    mine = {record.case: record for record in records if record.method == ours}
    if not mine:
        return []
    comparisons = []
    for other in dict.fromkeys(record.method for record in records if record.method != ours):
        theirs = {record.case: record for record in records if record.method == other}
        for form, metric in asked:
            value = values[form][metric]
            pairs = [(value(mine[case]), value(theirs[case])) for case in mine if case in theirs]
            both = [(a, b) for a, b in pairs if a is not None and b is not None]
            comparisons.append(_comparison(ours, other, metric, form, both, seed))
    return comparisons


def sign_test(above: int, below: int) -> float:
    """The exact two-sided sign test of paired differences, which is McNemar's if they are wins and losses.

    >>> sign_test(4, 0)
    0.125

    Args:
        above, below: how many differences are above and below 0; those at 0 tell nothing.

    Returns:
        The probability of a split at least as uneven, if both signs were equally likely.
    """
    n, fewer = above + below, min(above, below)
    tail = sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n
    return float(min(1.0, 2 * tail))


def _comparison(
    ours: str, other: str, metric: str, form: FormName, pairs: Sequence[tuple[float, float]], seed: int
) -> Comparison:
    n = len(pairs)
    if not pairs:
        return Comparison(ours, other, metric, form, 0, 0, None, None, None, None, None, "cannot be said")
    differences = [a - b for a, b in pairs]
    non_finite = sum(not math.isfinite(difference) for difference in differences)
    low, high = (None, None) if non_finite else bootstrap_interval(differences, seed=seed)
    return Comparison(
        ours,
        other,
        metric,
        form,
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
    above, below = differences.count(1.0), differences.count(-1.0)
    whole_points = above + below + differences.count(0.0) == len(differences)
    if low <= 0 <= high or (whole_points and sign_test(above, below) >= LEVEL):
        return "no difference seen"
    return "wins" if low * sign > 0 else "loses"
