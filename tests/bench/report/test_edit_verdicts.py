from dataclasses import replace

import pytest

from roselora.bench.records.edit_bench_records import Cost, EditRecord
from tests.bench.report.edit_runs import HEAD, report, run_of, section


def test_where_ours_loses_and_wins_follows_the_numbers_both_ways() -> None:
    better = report(run_of(no_edit=(0.0, 1.0), lora=(0.0, 0.25), rose=(1.0, 0.5)))
    assert "- **locality, bare** loses to no-edit: 0.500 against 1.000, difference -0.500" in section(
        better, "Where rose loses"
    )
    assert "lora" not in section(better, "Where rose loses")
    assert "- **reliability, bare** beats lora: 1.000 against 0.000" in section(better, "Where rose wins")
    assert "- **KL, bare** shows no difference beyond the interval from lora" in section(
        better, "Where rose shows no difference"
    )
    worse = report(run_of(no_edit=(0.0, 1.0), lora=(1.0, 0.75), rose=(0.0, 0.5)))
    assert "- **reliability, bare** loses to lora: 0.000 against 1.000" in section(worse, "Where rose loses")
    # Of ten, reliability, locality and KL against two methods: no case has rephrasings or portability questions.
    assert section(worse, "Where rose wins") == "In none of the 6 comparisons that can be judged."


def test_costs_are_named_where_ours_takes_more_and_where_less() -> None:
    dear = [replace(each, cost=Cost(9.0, 2**20, 39, 1)) for each in run_of(rose=(1.0, 1.0))]
    page = report(run_of(lora=(1.0, 1.0)) + dear)
    assert "- more **time per edit** (by the medians below) than lora" in section(page, "Where rose loses")
    assert "- less **peak memory** (by the medians below) than lora" in section(page, "Where rose wins")
    assert "- fewer **entries changed** (by the medians below) than lora" in section(page, "Where rose wins")
    assert "entries changed" not in section(page, "Where rose loses")


@pytest.mark.parametrize(("taken", "said"), [(8.1, False), (8.2, True), (5.3, False), (5.2, True)])
def test_a_difference_in_time_of_less_than_a_quarter_is_not_mentioned(taken: float, said: bool) -> None:
    # lora's median is 6.5 s: a quarter more is 8.125 s, and 6.5 s is a quarter more than 5.2 s.
    ours = [replace(each, cost=Cost(taken, 3 * 2**20, 40, 1)) for each in run_of(rose=(1.0, 1.0))]
    assert ("**time per edit**" in report(run_of(lora=(1.0, 1.0)) + ours)) == said


def test_too_few_cases_give_no_verdict_and_the_reason_is_given_once() -> None:
    # Every difference is 1, so that the intervals leave out 0; five cases are too few to conclude from that.
    records = [each for each in run_of(no_edit=(0.0, 0.0), lora=(0.0, 0.0), rose=(1.0, 1.0)) if each.position < 5]
    asked = [
        replace(each, scores=replace(each.scores, portability={"Reasoning": 1.0}, generalization=1.0))
        for each in records
        if each.scores is not None
    ]
    page = report(asked)
    assert section(page, "Where rose wins").startswith("No comparison can be judged.")
    few = "fewer than 10 cases (here 5) are too few for the bootstrap"
    assert section(page, "Where rose cannot be compared").startswith(f"In anything: {few}.")
    lines = section(report(records), "Where rose cannot be compared").splitlines()
    assert lines == [f"In anything: {few}."], "generalization and portability were not measured"


@pytest.mark.parametrize(
    ("records", "why"),
    [([], "has no records in this run"), (run_of(rose=(1.0, 1.0)), "is the only method of this run")],
)
def test_without_a_second_method_there_is_nothing_to_compare(records: list[EditRecord], why: str) -> None:
    assert section(report(records), "Where rose loses and wins") == f"rose {why}, so there is nothing to compare."


def test_the_compared_method_can_be_chosen() -> None:
    page = report(run_of(lora=(0.0, 1.0), rose=(1.0, 1.0)), ours=["lora"])
    assert "loses to rose" in section(page, "Where lora loses")


def test_each_of_our_methods_that_was_run_is_compared_and_the_default_comes_first() -> None:
    records = run_of(lora=(0.0, 1.0), rose=(1.0, 0.5), gate=(1.0, 1.0))
    page = report(records, replace(HEAD, methods={**HEAD.methods, "gate": {}}))
    assert "**locality, bare** loses to gate" in section(page, "Where rose loses")
    assert "**locality, bare** beats rose:" in section(page, "Where gate wins")
    assert page.index("## Where gate loses") < page.index("## Where rose loses")
    alone = report(run_of(lora=(0.0, 1.0), gate=(1.0, 1.0)))
    assert "## Where rose " not in alone
