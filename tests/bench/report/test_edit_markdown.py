import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roselora.bench.records.edit_bench_records import Cost, FormScores
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
    assert "(seed 0)" in section(page, "About the scores")


def test_only_the_first_of_many_left_out_cases_are_named() -> None:
    page = report([], replace(HEAD, skipped=tuple(f"made/{number}" for number in range(300))))
    assert "| 300: made/0, made/1, " in page
    assert "made/19, and more (in `report.json`) |" in page


def test_a_score_is_its_mean_interval_and_n() -> None:
    page = report(run_of(rose=(1.0, 0.5)))
    # Wilson, 12 of 12: n / (n + z²) = 12 / 15.8415 = 0.75750.
    row = cells(page, "Scores, bare", "rose")
    assert row[:6] == ["rose", "12", "1.000 [0.758, 1.000] (12)", "-", "-", "-"]
    assert row[6:] == ["0.500 [0.500, 0.500] (12)", "-", "-", "0.250 [0.250, 0.250] (12)", "-", "-"]
    cost = cells(page, "Cost per edit", "rose")
    assert cost == [
        "rose",
        "-",
        "7.00 (2.00 to 12.0; 11)",
        "3.00 (3.00 to 3.00; 12)",
        "40 (40 to 40; 12)",
        "25 (25 to 25; 12)",
    ]
    assert cells(page, "Locality by sub-type, bare", "rose")[1] == "0.500 [0.500, 0.500] (12)"
    assert "Portability by sub-type, bare" not in page


def test_what_a_sequence_changed_is_compared_by_the_heads_count() -> None:
    uncounted = [replace(each, cost=Cost(1.0, 0, None, 1)) for each in run_of(lora=(1.0, 1.0), rose=(1.0, 1.0))]
    page = report(uncounted, replace(HEAD, mode="sequential", entries={"no-edit": 0, "lora": 90_000, "rose": 4_000}))
    assert "- fewer **entries changed** (by the medians below) than lora" in section(page, "Where rose wins")
    assert "entries changed" not in section(page, "Where rose loses")  # no-edit has no records
    assert cells(page, "Cost per edit", "lora")[4] == "90,000"
    assert cells(page, "Cost per edit", "no-edit")[4] == "-"


def test_the_cost_note_says_how_seconds_were_measured_and_by_how_many_commands() -> None:
    assert "wall time on the machine with whatever else it was doing." in report([])
    assert "come from 2 separate commands" in section(report([], replace(HEAD, parts=HEAD.parts * 2)), "Cost per edit")


def test_methods_without_a_text_for_their_covariance_are_named() -> None:
    given = {"text": {"name": "corpus.txt"}}
    settings = {"rome": {"text": None}, "memit": given, "alphaedit": {"text": None}, "lora": {}}
    page = section(report([], replace(HEAD, methods=settings)), "About the scores")
    assert "each of these methods used the identity: rome, alphaedit." in page
    assert "identity" not in report([])


def test_a_divergence_of_zero_everywhere_has_no_wilson_interval() -> None:
    records = [record(case, "no-edit", 0.0, 1.0, kl=0.0) for case in range(12)]
    assert cells(report(records), "Scores, bare", "no-edit")[9] == "0 [0, 0] (12)"


def test_questions_of_the_facts_own_old_answer_are_explained_where_they_are_shown() -> None:
    records = run_of(rose=(1.0, 1.0))
    assert "Same Answer" not in report(records)
    scores = records[0].scores
    assert scores is not None
    records[0] = replace(records[0], scores=replace(scores, locality={"Forgetfulness": 0.5, "Same_Answer": 0.0}))
    page = report(records)
    assert "No part of locality's mean above, nor of KL: Same Answer." in section(page, "Locality by sub-type, bare")
    assert cells(page, "Scores, bare", "rose")[6].startswith("0.958 ")  # 11.5 of 12


def test_skipped_cases_are_mentioned() -> None:
    assert "| cases | 12, chosen by seed 3 |" in report(run_of(rose=(1.0, 1.0)))
    assert "| cases | 12, chosen by seed 3, after its first 100 |" in report(
        run_of(rose=(1.0, 1.0)), replace(HEAD, skip=100)
    )


def test_a_method_whose_every_edit_failed_has_a_row_and_a_reason() -> None:
    page = report(failed("lora") + run_of(rose=(1.0, 1.0)))
    assert cells(page, "Scores, bare", "lora")[2] == "0.000 [0.000, 0.242] (12)"
    assert cells(page, "Scores, bare", "lora")[6:] == ["-"] * 6
    reasons = section(page, "Failed edits")
    assert "- lora: every edit failed; most often (12): No subject \\| in &lt;this> case." in reasons
    assert "- no-edit has not been run." in reasons
    assert "**Not every method has been run on every case**" in section(page, "About the scores")
    assert "**locality, bare**, **KL, bare** against lora: no case in which both have it" in section(
        page, "Where rose cannot be compared"
    )


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_an_infinite_divergence_is_shown_as_such(bad: float, tmp_path: Path) -> None:
    records = run_of(lora=(1.0, 1.0), rose=(1.0, 1.0))
    records[3] = record(3, "lora", 1.0, 1.0, kl=bad)
    page = report(records)
    assert cells(page, "Scores, bare", "lora")[9] == f"{number(bad)} [no interval] (12, 1 not finite)"
    assert "**KL, bare** against lora: 1 of 12 differences are not finite" in section(
        page, "Where rose cannot be compared"
    )
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
    assert cells(page, "Reliability by age of edit, bare", "0 to 11")[1] == "1.000 [0.758, 1.000] (12)"


def test_failed_runs_are_listed_and_count_in_no_score() -> None:
    head = replace(HEAD, failures=(FailedRun("lora", "made/3", "OutOfMemoryError: no | memory"),))
    shown = report(run_of(rose=(1, 1)), head)
    assert "## Failed runs" in shown
    assert "- lora, made/3: OutOfMemoryError: no \\| memory" in shown
    assert "lora has not been run" in shown
    assert "## Failed runs" not in report(run_of(rose=(1, 1)))


def test_each_form_has_its_scores_and_a_record_without_one_shows_nothing_there() -> None:
    records = run_of(lora=(1.0, 1.0), rose=(1.0, 0.5))
    chat = FormScores("y", 0.0, None, {}, {"Forgetfulness": 0.25, "Nearest_Question": 1.0}, 0.5, behind_sentence=1.0)
    records = [replace(each, chat=chat) if each.method == "rose" else each for each in records]
    page = report(records, replace(HEAD, forms=("bare", "chat"), without=("made/1", "made/4")))
    assert cells(page, "Scores, bare", "rose")[6] == "0.500 [0.500, 0.500] (12)"
    row = cells(page, "Scores, chat", "rose")
    assert row[2:4] == ["0.000 [0.000, 0.242] (12)", "1.000 [0.758, 1.000] (12)"]
    assert row[6:9] == ["0.250 [0.250, 0.250] (12)", "1.000 [0.758, 1.000] (12)", "-"]
    assert set(cells(page, "Scores, chat", "lora")[2:]) == {"-"}
    assert cells(page, "Locality by sub-type, chat", "rose")[1:] == [row[6], row[7]]
    assert "KL: Nearest Question." in section(page, "Locality by sub-type, chat")
    assert "| cases | 12, chosen by seed 3, without 2 that earlier runs had asked |" in page
    assert "| forms | bare and chat |" in page


def test_the_seconds_to_the_first_edit_include_loading_and_preparation() -> None:
    head = replace(HEAD, loading_seconds=3.0, preparation_seconds={"rose": 20.0})
    page = report(run_of(lora=(1.0, 1.0), rose=(1.0, 1.0)), head)
    assert cells(page, "Cost per edit", "rose")[1:3] == ["24.0", "7.00 (2.00 to 12.0; 11)"]
    assert cells(page, "Cost per edit", "lora")[1] == "-"  # not known
    batch = report(run_of(rose=(1.0, 1.0)), replace(head, mode="batch"))
    assert cells(batch, "Cost per edit", "rose")[1] == "-"
