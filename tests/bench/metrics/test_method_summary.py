import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from roselora.bench.metrics.estimates import CostRange, Estimate, bootstrap_interval, wilson_interval
from roselora.bench.metrics.method_summary import MethodSummary, summarize
from roselora.bench.records.edit_bench_records import Cost, EditRecord, FormScores, Scores, TokenAccuracy


def record(
    case: int,
    method: str = "rose",
    *,
    reliability: float = 1.0,
    generalization: float | None = 1.0,
    portability: Mapping[str, float] | None = None,
    locality: Mapping[str, float] | None = None,
    kl: float | None = 0.5,
    fluency: float | None = None,
    seconds: float = 1.0,
) -> EditRecord:
    tokens = TokenAccuracy(0.5, None, {"Reasoning": 0.25, "Aliasing": 0.75}, {})
    scores = Scores("x", reliability, generalization, portability or {}, locality or {}, kl, fluency, tokens)
    return EditRecord(f"made/{case}", method, case, scores, Cost(seconds, 100 * case, 7, 3))


def mean(summary: MethodSummary, metric: str) -> Any:
    """The estimate of a metric in the bare form, or None."""
    return summary.forms["bare"].means.get(metric)


def failed(case: int, method: str = "rose", error: str = "Out of memory.") -> EditRecord:
    return EditRecord(f"made/{case}", method, case, None, None, error)


def test_sub_types_are_averaged_within_a_case_and_then_cases() -> None:
    (summary,) = summarize(
        [
            record(0, portability={"Reasoning": 0.2, "Aliasing": 0.6}),  # 0.4
            record(1, portability={"Reasoning": 0.8}),  # 0.8
            record(2, portability={}),  # asks nothing: left out
        ]
    )
    assert mean(summary, "portability").n == 2
    assert mean(summary, "portability").value == pytest.approx(0.6)  # over all three questions it would be 0.533
    assert (mean(summary, "portability").low, mean(summary, "portability").high) == bootstrap_interval([0.4, 0.8])
    assert summary.forms["bare"].portability_by["Reasoning"].value == pytest.approx(0.5)
    assert (
        summary.forms["bare"].portability_by["Aliasing"].value,
        summary.forms["bare"].portability_by["Aliasing"].n,
    ) == (0.6, 1)


def test_divergences_and_fluencies_are_no_rates_even_where_all_happen_to_be_zero_or_one() -> None:
    (still,) = summarize([record(case, kl=0.0) for case in range(4)])
    assert mean(still, "kl") == Estimate(0.0, 0.0, 0.0, 4, "bootstrap")
    (moved,) = summarize([record(case, kl=float(case % 2), fluency=1.0) for case in range(4)])
    assert mean(moved, "kl") == Estimate(0.5, *bootstrap_interval([0.0, 1.0, 0.0, 1.0]), 4, "bootstrap")
    assert moved.fluency == Estimate(1.0, 1.0, 1.0, 4, "bootstrap")


def test_what_a_case_does_not_ask_is_never_counted_as_zero() -> None:
    (summary,) = summarize([record(0, generalization=None, kl=None), record(1, generalization=1.0, kl=0.5)])
    assert mean(summary, "generalization") == Estimate(1.0, *wilson_interval(1, 1), 1, "wilson")
    assert (mean(summary, "kl").value, mean(summary, "kl").n) == (0.5, 1)
    assert summary.fluency is None
    assert mean(summary, "locality") is None


def test_a_failed_edit_counts_as_not_learnt_and_is_left_out_of_what_was_not_measured() -> None:
    records = [
        record(0, portability={"Reasoning": 1.0}, locality={"Forgetfulness": 0.5}),
        failed(1),
        record(1, "lora", portability={"Reasoning": 1.0}),
    ]
    summary = summarize(records)[0]
    assert mean(summary, "reliability") == Estimate(0.5, *wilson_interval(1, 2), 2, "wilson")
    assert mean(summary, "generalization") == Estimate(0.5, *wilson_interval(1, 2), 2, "wilson")
    assert (mean(summary, "portability").value, mean(summary, "portability").n) == (0.5, 2)
    assert summary.forms["bare"].portability_by["Reasoning"].n == 2
    for left_out in (mean(summary, "locality"), mean(summary, "kl"), summary.token_accuracy["reliability"]):
        assert left_out is not None
        assert left_out.n == 1
    assert (summary.edits, summary.failed, summary.failure, summary.failure_count) == (2, 1, "Out of memory.", 1)


def test_a_failed_edit_is_not_asked_rephrasings_that_its_case_does_not_have() -> None:
    rows = summarize([failed(0), record(0, "lora", generalization=None), failed(1), record(1, "lora")])
    assert mean(rows[0], "generalization") == Estimate(0.0, *wilson_interval(0, 1), 1, "wilson")
    (alone,) = summarize([failed(0)])
    assert mean(alone, "generalization") is None


def test_a_method_whose_every_edit_failed_is_a_row_that_says_why_and_one_that_did_not_run_is_empty() -> None:
    rows = summarize([failed(0), failed(1, error="NaN."), failed(2)], ["rome", "rose"])
    assert [row.method for row in rows] == ["rome", "rose"]
    assert (rows[0].edits, mean(rows[0], "reliability")) == (0, None)
    assert (rows[1].failed, rows[1].failure, rows[1].failure_count) == (3, "Out of memory.", 2)
    assert mean(rows[1], "reliability") == Estimate(0.0, *wilson_interval(0, 3), 3, "wilson")
    assert mean(rows[1], "kl") is None
    assert rows[1].costs == {}


@pytest.mark.parametrize(("bad", "is_such"), [(math.inf, math.isinf), (math.nan, math.isnan)])
def test_a_divergence_that_is_not_finite_is_shown_and_not_dropped(bad: float, is_such: object) -> None:
    (summary,) = summarize([record(0, kl=bad), record(1, kl=0.5)])
    assert is_such(mean(summary, "kl").value)  # type: ignore[operator]
    assert (
        mean(summary, "kl").low,
        mean(summary, "kl").high,
        mean(summary, "kl").n,
        mean(summary, "kl").non_finite,
    ) == (None, None, 2, 1)


def test_costs_are_medians_with_their_range() -> None:
    (summary,) = summarize([record(1, seconds=3.0), record(2, seconds=1.0), record(6, seconds=8.0), failed(4)])
    assert summary.costs["seconds"] == CostRange(3.0, 1.0, 8.0, 3)
    assert summary.costs["peak_bytes"] == CostRange(200, 100, 600, 3)


def test_token_accuracy_is_averaged_as_easyedit_does() -> None:
    (summary,) = summarize([record(0), record(1)])
    assert summary.token_accuracy["portability"].value == 0.5
    assert set(summary.token_accuracy) == {"reliability", "portability"}


def test_the_bootstraps_seed_is_the_one_that_was_asked_for() -> None:
    records = [record(case, kl=case / 7) for case in range(7)]
    first, again, other = (mean(summarize(records, seed=seed)[0], "kl") for seed in (1, 1, 2))
    assert first == again != other


def test_a_case_that_no_method_answered_counts_as_zero_where_other_cases_have_such_questions() -> None:
    records = [failed(0), record(1, portability={"Reasoning": 1.0})]
    (summary,) = summarize(records)
    assert mean(summary, "portability") == Estimate(0.5, *wilson_interval(1, 2), 2, "wilson")
    assert mean(summary, "generalization") == Estimate(0.5, *wilson_interval(1, 2), 2, "wilson")
    assert summary.forms["bare"].portability_by["Reasoning"].n == 1  # which sub-types it has is not known
    (without,) = summarize([failed(0), record(1, generalization=None)])
    assert mean(without, "portability") is mean(without, "generalization") is None


def test_the_first_edit_that_was_made_is_told_apart_from_those_after_it() -> None:
    (summary,) = summarize([failed(4), record(1, seconds=9.0), record(2, seconds=1.0), record(3, seconds=3.0)])
    assert summary.costs["first_seconds"] == CostRange(9.0, 9.0, 9.0, 1)
    assert summary.costs["later_seconds"] == CostRange(2.0, 1.0, 3.0, 2)


def test_each_form_has_its_own_means_and_one_that_a_record_lacks_is_no_zero() -> None:
    chat = FormScores("y", 0.0, 0.5, {}, {"Nearest_Question": 1.0}, 2.0, kl_by={"Nearest_Question": 4.0})
    records = [replace(record(0), chat=chat), record(1), failed(2)]
    (summary,) = summarize(records, forms=("bare", "chat"))
    bare, in_chat = (summary.forms[form].means for form in ("bare", "chat"))
    assert (bare["reliability"].value, bare["reliability"].n) == (pytest.approx(2 / 3), 3)
    assert (in_chat["reliability"].value, in_chat["reliability"].n) == (0.0, 2)  # the failed edit counts, record 1 not
    assert (in_chat["generalization"].value, in_chat["generalization"].n) == (0.25, 2)
    assert (in_chat["nearest"].value, in_chat["nearest"].n) == (1.0, 1)
    assert (in_chat["kl"].value, in_chat["nearest_kl"].value) == (2.0, 4.0)
    assert "locality" not in in_chat, "the nearest question is no part of it"
    assert "behind_sentence" not in in_chat


@pytest.mark.parametrize(("own", "expected"), [("Relation_Specificity", 0.25), ("Same_Subject", 0.75)])
def test_the_same_subjects_row_takes_the_records_own_questions_where_it_has_them(own: str, expected: float) -> None:
    (summary,) = summarize([record(0, locality={own: expected, "Forgetfulness": 1.0})])
    assert mean(summary, "same_subject").value == expected
