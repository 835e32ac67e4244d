import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roselora.bench.records.edit_bench_records import Cost
from roselora.bench.records.failed_run import FailedRun
from roselora.bench.report.edit_report import write_report
from roselora.markdown import number
from tests.bench.report.edit_runs import HEAD, cells, failed, record, report, run_of, section


def test_the_facts_suffice_to_repeat_the_run() -> None:
    page = report([])
    for fact in (
        "ab" * 32,
        "cd" * 32,
        "made.json",
        "12, chosen by seed 3",
        "made/7, made/9",
        "torch 2.13",
        "threads 1",
    ):
        assert fact in page
    assert "`roselora bench edit --model tiny \\| tee <log>`" in page
    assert '- lora: `{"rank": 8, "norm": "Infinity"}`' in section(page, "Settings of each method")
    assert "(seed 0)" in section(page, "Scores")


def test_only_the_first_of_many_left_out_cases_are_named() -> None:
    page = report([], replace(HEAD, skipped=tuple(f"made/{number}" for number in range(300))))
    assert "| 300: made/0, made/1, " in page
    assert "made/19, and more (in `report.json`) |" in page


def test_a_score_is_its_mean_interval_and_n() -> None:
    page = report(run_of(rose=(1.0, 0.5)))
    # Wilson, 12 of 12: n / (n + z²) = 12 / 15.8415 = 0.75750.
    row = cells(page, "Scores", "rose")
    assert row[:5] == ["rose", "12", "1.000 [0.758, 1.000] (12)", "-", "-"]
    assert row[5:] == ["0.500 [0.500, 0.500] (12)", "0.250 [0.250, 0.250] (12)", "-"]
    cost = cells(page, "Cost per edit", "rose")
    assert cost == [
        "rose",
        "6.50 (1.00 to 12.0; 12)",
        "3.00 (3.00 to 3.00; 12)",
        "40 (40 to 40; 12)",
        "25 (25 to 25; 12)",
    ]
    assert cells(page, "Locality by sub-type", "rose")[1] == "0.500 [0.500, 0.500] (12)"
    assert "Portability by sub-type" not in page


def test_what_a_sequence_changed_is_compared_by_the_heads_count() -> None:
    uncounted = [replace(each, cost=Cost(1.0, 0, None, 1)) for each in run_of(lora=(1.0, 1.0), rose=(1.0, 1.0))]
    page = report(uncounted, replace(HEAD, mode="sequential", entries={"no-edit": 0, "lora": 90_000, "rose": 4_000}))
    assert "- fewer **entries changed** (by the medians below) than lora" in section(page, "Where rose wins")
    assert "entries changed" not in section(page, "Where rose loses")  # no-edit has no records
    assert cells(page, "Cost per edit", "lora")[3] == "90,000"
    assert cells(page, "Cost per edit", "no-edit")[3] == "-"


def test_the_cost_note_says_how_seconds_were_measured_and_by_how_many_commands() -> None:
    assert "wall time on the machine with whatever else it was doing." in report([])
    assert "come from 2 separate commands" in section(report([], replace(HEAD, parts=HEAD.parts * 2)), "Cost per edit")


def test_methods_without_a_text_for_their_covariance_are_named() -> None:
    given = {"text": {"name": "corpus.txt"}}
    settings = {"rome": {"text": None}, "memit": given, "alphaedit": {"text": None}, "lora": {}}
    page = section(report([], replace(HEAD, methods=settings)), "Scores")
    assert "each of these methods used the identity: rome, alphaedit." in page
    assert "identity" not in report([])


def test_a_divergence_of_zero_everywhere_has_no_wilson_interval() -> None:
    records = [record(case, "no-edit", 0.0, 1.0, kl=0.0) for case in range(12)]
    assert cells(report(records), "Scores", "no-edit")[6] == "0 [0, 0] (12)"


def test_questions_of_the_facts_own_old_answer_are_explained_where_they_are_shown() -> None:
    records = run_of(rose=(1.0, 1.0))
    assert "Same Answer" not in report(records)
    scores = records[0].scores
    assert scores is not None
    records[0] = replace(records[0], scores=replace(scores, locality={"Forgetfulness": 0.5, "Same_Answer": 0.0}))
    page = report(records)
    assert "not part of locality's mean above, nor of KL" in section(page, "Locality by sub-type")
    assert cells(page, "Scores", "rose")[5].startswith("0.958 ")  # 11.5 of 12


def test_skipped_cases_are_mentioned() -> None:
    assert "| cases | 12, chosen by seed 3 |" in report(run_of(rose=(1.0, 1.0)))
    assert "| cases | 12, chosen by seed 3, after its first 100 |" in report(
        run_of(rose=(1.0, 1.0)), replace(HEAD, skip=100)
    )


def test_a_method_whose_every_edit_failed_has_a_row_and_a_reason() -> None:
    page = report(failed("lora") + run_of(rose=(1.0, 1.0)))
    assert cells(page, "Scores", "lora")[2] == "0.000 [0.000, 0.242] (12)"
    assert cells(page, "Scores", "lora")[5:] == ["-", "-", "-"]
    reasons = section(page, "Failed edits")
    assert "- lora: every edit failed; most often (12): No subject \\| in &lt;this> case." in reasons
    assert "- no-edit has not been run." in reasons
    assert "**Not every method has been run on every case**" in section(page, "Scores")
    assert "**locality**, **KL** against lora: no case in which both have it" in section(
        page, "Where rose cannot be compared"
    )


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_an_infinite_divergence_is_shown_as_such(bad: float, tmp_path: Path) -> None:
    records = run_of(lora=(1.0, 1.0), rose=(1.0, 1.0))
    records[3] = record(3, "lora", 1.0, 1.0, kl=bad)
    page = report(records)
    assert cells(page, "Scores", "lora")[6] == f"{number(bad)} [no interval] (12, 1 not finite)"
    assert "**KL** against lora: 1 of 12 differences are not finite" in section(page, "Where rose cannot be compared")
    write_report(HEAD, records, tmp_path)
    json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)


def test_capability_is_shown_before_and_after_with_its_interval() -> None:
    measured: Mapping[str, Mapping[str, Any]] = {
        "rose": {"perplexity": 21.5},
        "base": {"perplexity": 20.123, "arc": {"value": 0.25, "low": 0.2, "high": 0.3, "n": 100}},
    }
    page = section(report([], replace(HEAD, capability=measured)), "Capability, before and after all edits")
    first, second = page.splitlines()[-2:]
    assert first == "| before (base) | 20.1 | 0.250 [0.200, 0.300] (100) |"
    assert second == "| after rose | 21.5 | - |"


def test_only_sequential_runs_show_reliability_by_age() -> None:
    records = run_of(rose=(1.0, 1.0))
    assert "Reliability by age" not in report(records)
    page = report(records, replace(HEAD, mode="sequential"))
    assert cells(page, "Reliability by age of edit", "0 to 11")[1] == "1.000 [0.758, 1.000] (12)"


def test_failed_runs_are_listed_and_count_in_no_score() -> None:
    head = replace(HEAD, failures=(FailedRun("lora", "made/3", "OutOfMemoryError: no | memory"),))
    shown = report(run_of(rose=(1, 1)), head)
    assert "## Failed runs" in shown
    assert "- lora, made/3: OutOfMemoryError: no \\| memory" in shown
    assert "lora has not been run" in shown
    assert "## Failed runs" not in report(run_of(rose=(1, 1)))
