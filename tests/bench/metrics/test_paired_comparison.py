import math

import pytest

from roselora.bench.metrics.estimates import bootstrap_interval
from roselora.bench.metrics.paired_comparison import LEAST_CASES, Comparison, compare, sign_test
from roselora.bench.records.edit_bench_records import EditRecord, Scores, TokenAccuracy


def record(case: int, method: str, reliability: float, kl: float | None = 0.0, locality: float = 1.0) -> EditRecord:
    tokens = TokenAccuracy(0.0, None, {}, {})
    scores = Scores("x", reliability, None, {}, {"Forgetfulness": locality}, kl, None, tokens)
    return EditRecord(f"made/{case}", method, case, scores, None)


def of(comparisons: list[Comparison], metric: str, other: str = "lora") -> Comparison:
    (found,) = (item for item in comparisons if item.metric == metric and item.other == other)
    return found


def test_differences_are_taken_case_by_case_and_drawn_in_pairs() -> None:
    ours = [0.0] * 6 + [1.0] * 6
    theirs = [0.0] * 3 + [1.0] * 9
    records = [record(case, "rose", value) for case, value in enumerate(ours)]
    # In another order, with a case that ours was not asked: neither matters.
    records += [record(case, "lora", value) for case, value in reversed(list(enumerate([*theirs, 1.0])))]
    found = of(compare(records, "rose"), "reliability")
    assert (found.n, found.our_mean, found.other_mean, found.difference) == (12, 0.5, 0.75, -0.25)
    assert (found.low, found.high) == bootstrap_interval([a - b for a, b in zip(ours, theirs, strict=True)])
    assert found.verdict == "no difference seen"


def test_ours_loses_where_the_interval_leaves_out_zero_against_it_and_wins_where_for_it() -> None:
    records = [record(case, "rose", 0.0, kl=0.1, locality=1.0) for case in range(20)]
    records += [record(case, "lora", 1.0, kl=2.0 + case % 2, locality=1.0) for case in range(20)]
    comparisons = compare(records, "rose")
    assert of(comparisons, "reliability").verdict == "loses"
    assert of(comparisons, "kl").verdict == "wins"  # less is better
    assert of(comparisons, "locality").verdict == "no difference seen"
    assert {item.metric for item in comparisons} == {"reliability", "locality", "kl"}, "no case asks anything else"
    turned = compare(records, "lora")
    assert of(turned, "reliability", "rose").verdict == "wins"
    assert of(turned, "kl", "rose").verdict == "loses"


@pytest.mark.parametrize(("cases", "verdict"), [(LEAST_CASES - 1, "cannot be said"), (LEAST_CASES, "wins")])
def test_few_cases_conclude_nothing(cases: int, verdict: str) -> None:
    records = [record(case, "rose", 1.0) for case in range(cases)] + [
        record(case, "lora", 0.0) for case in range(cases)
    ]
    assert of(compare(records, "rose"), "reliability").verdict == verdict


def test_failed_edits_lose_reliability_and_have_no_divergence() -> None:
    records = [record(case, "rose", 1.0) for case in range(12)]
    records += [EditRecord(f"made/{case}", "rome", case, None, None, "No subject.") for case in range(12)]
    comparisons = compare(records, "rose")
    assert of(comparisons, "reliability", "rome").difference == 1.0
    assert of(comparisons, "kl", "rome").n == 0


def test_divergences_that_are_not_finite_give_no_verdict_and_are_counted() -> None:
    records = [record(case, "rose", 1.0, kl=0.1) for case in range(12)]
    records += [record(case, "lora", 1.0, kl=math.nan if case == 3 else math.inf) for case in range(12)]
    found = of(compare(records, "rose"), "kl")
    assert (found.verdict, found.non_finite, found.low) == ("cannot be said", 12, None)


def test_without_ours_there_is_nothing_to_compare() -> None:
    assert compare([record(0, "lora", 1.0)], "rose") == []


def test_the_sign_test_counts_coin_tosses() -> None:
    assert sign_test(4, 0) == pytest.approx(2 / 16)
    assert sign_test(1, 5) == pytest.approx(2 * (1 + 6) / 64)
    assert sign_test(3, 3) == 1
    assert sign_test(0, 0) == 1
