"""How `make conformance` compares PEFT's battery with plain LoRA and with ours, on made-up results."""

import json
from typing import Any

from benchmarks.conformance.battery import FILES, LEFT_OUT_FILES
from benchmarks.conformance.compare import compare, failures, table

FILE = "tests/test_custom_models.py"


def result(outcome: str, why: str = "", configs: int = 1) -> dict[str, Any]:
    return {"outcome": outcome, "why": why, "configs": configs}


def test_a_failure_that_plain_lora_does_not_have_is_unexplained_until_a_reason_is_given() -> None:
    lora = {f"{FILE}::test_merge[MLP-LoraConfig-1]": result("passed")}
    ours = {f"{FILE}::test_merge[MLP-RoseLoraConfig-1]": result("failed", "AssertionError")}
    [difference] = compare(lora, ours, {}).unexplained
    assert (difference.test, difference.why) == (f"{FILE}::test_merge[MLP-LoraConfig-1]", "AssertionError")
    explained = compare(lora, ours, {"test_merge[": "because"})
    assert explained.unexplained == []
    assert [difference.reason for difference in explained.differences] == ["because"]


def test_the_ids_of_both_runs_meet_whether_or_not_they_hold_the_whole_class_name() -> None:
    lora = {f"{FILE}::test_mixed_0_Lora_LoHa": result("passed"), f"{FILE}::test_a[LoraConfig]": result("passed")}
    ours = {test.replace("Lora", "RoseLora"): one for test, one in lora.items()}
    assert compare(lora, ours, {}).differences == []


def test_the_result_can_be_written_as_json() -> None:
    one = {f"{FILE}::test_a": result("passed")}
    written = json.loads(json.dumps(compare(one, one, {}).as_json()))
    assert written["files"] == {FILE: {"lora": {"passed": 1}, "roselora": {"passed": 1}}}


def test_what_fails_in_both_is_no_difference() -> None:
    both = {f"{FILE}::test_hub": result("failed", "no network")}
    compared = compare(both, both, {})
    assert compared.differences == []
    assert compared.failed_in_both == {f"{FILE}::test_hub": "no network"}


def test_a_refusal_is_neither_passed_nor_failed_and_its_sentence_is_counted() -> None:
    tests = [f"{FILE}::test_{number}" for number in range(3)]
    lora = {test: result("passed") for test in tests}
    ours = {test: result("refused", "no DoRA") for test in tests}
    compared = compare(lora, ours, {})
    assert compared.differences == []
    assert compared.refusals == {"no DoRA": 3}
    assert table(compared).splitlines()[2:] == [
        "| test_custom_models.py | 3 | 0 | 0 | 0 | 0 | 0 | 3 |",
        "| all | 3 | 0 | 0 | 0 | 0 | 0 | 3 |",
    ]


def test_a_battery_that_shrinks_does_not_look_like_one_that_passes() -> None:
    lora = {f"{FILE}::test_a": result("passed"), f"{FILE}::test_b": result("passed")}
    ours = {f"{FILE}::test_a": result("skipped")}
    assert [difference.test for difference in compare(lora, ours, {}).unexplained] == list(lora)


PRUNED = {"pruning_steps": 3, "factors_left_dense": 0}


def test_the_job_passes_only_if_every_file_was_run_and_every_step_pruned() -> None:
    both = compare({f"{FILE}::test_a": result("passed")}, {f"{FILE}::test_a": result("passed")}, {})
    assert failures(both, PRUNED, [FILE]) == []
    assert "tests/test_other.py has no test" in failures(both, PRUNED, [FILE, "tests/test_other.py"])[0]
    assert "No optimizer step pruned" in failures(both, PRUNED | {"pruning_steps": 0}, [FILE])[0]
    assert "2 factors were dense" in failures(both, PRUNED | {"factors_left_dense": 2}, [FILE])[0]
    worse = compare({f"{FILE}::test_a": result("passed")}, {f"{FILE}::test_a": result("failed")}, {})
    assert failures(worse, PRUNED, [FILE]) == [f"{FILE}::test_a fails with ours alone."]


def test_a_test_that_makes_no_lora_config_is_not_counted() -> None:
    neither = {f"{FILE}::test_bone": result("passed", configs=0)}
    assert compare(neither, neither, {}).files == {}


def test_no_file_is_both_run_and_left_out_and_every_one_left_out_has_a_reason() -> None:
    assert not {*FILES} & {*LEFT_OUT_FILES}
    assert all(LEFT_OUT_FILES.values())
