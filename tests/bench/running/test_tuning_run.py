import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from roselora.bench.records.failed_run import FailedRun
from roselora.bench.records.run_files import BASE, read_records
from roselora.bench.records.tuning_bench_records import Abilities, Answered, TrainedUnit
from roselora.bench.report.tuning_report import write_tuning_report
from roselora.bench.running import tuning_run as module
from roselora.bench.running.eta import RunProgress
from roselora.bench.running.tuning_plan import TuningRequest, make_plan
from roselora.bench.running.tuning_run import run
from roselora.errors import ConfigError
from roselora.markdown import number
from roselora.training.train_settings import TrainSettings
from roselora.training.training_run import train
from roselora.writer_lock import LockedError
from tests.bench.conftest import record
from tests.bench.tuning import SETTINGS, nothing


def lines(folder: Path, name: str) -> list[str]:
    return (folder / name).read_text().splitlines()


def test_every_unit_is_trained_and_asked_once_and_a_second_run_does_nothing(wanted: TuningRequest) -> None:
    plan = make_plan(wanted)
    assert not wanted.folder.exists(), "planning writes nothing"
    seen: list[str] = []
    run(plan, lambda at: seen.append(at.doing), batch_size=1)
    assert {(unit.method, unit.seed) for unit in read_records(wanted.folder, TrainedUnit)} == {("rose", 0), ("rose", 1)}
    for unit in read_records(wanted.folder, TrainedUnit):
        assert (unit.entries_changed or 0) > 0
        assert (unit.steps, unit.examples) == (3, 4)
        assert unit.file_bytes > 0
    keys = [(a.method, a.seed, a.prediction.task, a.prediction.key) for a in read_records(wanted.folder, Answered)]
    assert len(keys) == len(set(keys)) == 3 * 3
    assert {"training rose, seed 1, learning rate 0.0005", "asking base, seed 0, boolq"} <= set(seen)

    before, told = lines(wanted.folder, Answered.FILE), []
    run(make_plan(wanted), lambda at: told.append(at.doing))
    assert lines(wanted.folder, Answered.FILE) == before
    assert told == []


def test_a_killed_run_resumes_with_what_is_missing(finished: TuningRequest) -> None:
    answers, units = lines(finished.folder, Answered.FILE), lines(finished.folder, TrainedUnit.FILE)
    (finished.folder / Answered.FILE).write_text("\n".join(answers[:-2]) + "\n" + answers[-2][:20])
    (finished.folder / TrainedUnit.FILE).write_text(units[0] + "\n")  # the second was being trained
    run(make_plan(finished), nothing)
    assert sorted(lines(finished.folder, Answered.FILE)) == sorted(answers)
    assert len(read_records(finished.folder, TrainedUnit)) == 2


def test_a_unit_resumes_from_a_whole_checkpoint_and_starts_again_without_one(
    wanted: TuningRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(replace(wanted, seeds=(0,), sets=("boolq",), overrides=(*SETTINGS, "training.save_steps=1")))
    settings = plan.at("rose", 0, plan.settings["rose"].training.learning_rate)
    resumed: list[bool] = []

    def train_and_note(settings: TrainSettings, resume: bool, **options: Any) -> Any:
        resumed.append(resume)
        return train(settings, resume=resume, **options)

    monkeypatch.setattr("roselora.bench.running.tuning_run.train", train_and_note)
    for left in ("half a checkpoint", "a finished run that was not noted", "a whole checkpoint"):
        if left == "half a checkpoint":
            (settings.checkpoints / "checkpoint-2").mkdir(parents=True)
        elif left == "a whole checkpoint":
            shutil.rmtree(Path(settings.output, "adapter"))
            shutil.rmtree(settings.checkpoints / "checkpoint-3")
        (wanted.folder / TrainedUnit.FILE).unlink(missing_ok=True)
        run(plan, nothing)
        assert [unit.steps for unit in read_records(wanted.folder, TrainedUnit)] == [3], left
    assert resumed == [False, False, True]


def test_a_second_run_into_one_folder_is_refused(wanted: TuningRequest) -> None:
    plan = make_plan(replace(wanted, methods=(), sets=("boolq",)))

    def start_another(at: RunProgress) -> None:
        with pytest.raises(LockedError, match="is locked by process"):
            run(plan, nothing)

    run(plan, start_another)
    assert not (wanted.folder / "lock").exists()
    answers = read_records(wanted.folder, Answered)
    assert len(answers) == len({answer.prediction.key for answer in answers})


def test_each_method_takes_the_learning_rate_that_does_best_on_validation_examples(
    wanted: TuningRequest, put: Any
) -> None:
    more = [record(f"Is {number} even?", str(number % 2 == 0).lower()) for number in range(20)]
    put("commonsense/boolq_train.json", more)
    choosing = replace(wanted, rates=(1e-9, 1e-2), overrides=(*SETTINGS, "training.max_steps=20"))
    plan = make_plan(choosing)
    assert (len(plan.data.validation), len(plan.data.training), plan.head.held_out) == (2, 21, 2)
    assert not [example for example in plan.data.training if example in plan.data.validation]
    run(plan, nothing)
    units = read_records(wanted.folder, TrainedUnit)
    assert [(unit.seed, unit.learning_rate) for unit in units] == [(0, 1e-9), (0, 1e-2), (1, 1e-2)]
    assert all(unit.held_out["eval_loss"] > 0 for unit in units)
    assert len(read_records(wanted.folder, Answered)) == 3 * 3
    write_tuning_report(wanted.folder)
    shown = (wanted.folder / "report.md").read_text()
    assert "| method | 1e-09 | 0.01 | chosen |" in shown
    (row,) = (line for line in shown.splitlines() if line.startswith("| rose | loss"))
    chose, last = (f"loss {number(unit.held_out['eval_loss'])}" for unit in units[1:])
    assert chose in row
    assert last not in row
    with pytest.raises(ConfigError, match="rates"):
        make_plan(replace(choosing, rates=(1e-9,)))
    with pytest.raises(ConfigError, match="too few to set some aside"):
        make_plan(replace(choosing, examples=9))


def test_abilities_are_measured_once_for_each_trained_model(
    wanted: TuningRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []

    def answered_by(model: Any, tokenizer: Any, data_dir: Any, *, n: int | None, seed: int) -> dict[str, list[float]]:
        asked.append(n)
        return {"mmlu": [1.0, 0.0, float(len(asked) == 1), 0.0], "perplexity": [2.0, 1.0]}

    monkeypatch.setattr("roselora.bench.running.tuning_run.ability_outcomes", answered_by)
    asking = replace(wanted, forgetting=4, seeds=(0,))
    run(make_plan(asking), nothing)
    run(make_plan(asking), nothing)
    assert asked == [4, 4], "the base and the one run"
    kept = {one.method: one.outcomes["mmlu"] for one in read_records(wanted.folder, Abilities)}
    assert kept == {"base": (1.0, 0.0, 1.0, 0.0), "rose": (1.0, 0.0, 0.0, 0.0)}
    write_tuning_report(wanted.folder)
    shown = (wanted.folder / "report.md").read_text()
    assert "| rose | 0 | 0.250 [0.046, 0.699] (4) | 4.482 [2.718, 7.389] (2) |" in shown
    assert "| rose | -0.250 [-0.750, 0.000] (4) | 0.000 [0.000, 0.000] (2) |" in shown
    with pytest.raises(ConfigError, match="data-dir"):
        make_plan(replace(asking, data_dir=None))


def test_a_method_that_cannot_be_run_is_a_failed_run_and_is_tried_again(
    wanted: TuningRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB.")

    both = replace(wanted, methods=("lora", "rose"), seeds=(0,), sets=("boolq",))
    own = module.train
    monkeypatch.setattr(
        module, "train", lambda made, **how: (out_of_memory if made.method == "lora" else own)(made, **how)
    )
    failed = FailedRun("lora", "seed 0", "OutOfMemoryError: CUDA out of memory.")
    assert run(make_plan(both), nothing) == [failed]
    assert {answer.method for answer in read_records(wanted.folder, Answered)} == {BASE, "rose"}
    report = write_tuning_report(wanted.folder)[0].read_text()
    assert "## Failed runs" in report
    assert "- lora, seed 0: OutOfMemoryError: CUDA out of memory." in report

    monkeypatch.setattr(module, "train", own)
    assert run(make_plan(both), nothing) == []
    assert {answer.method for answer in read_records(wanted.folder, Answered)} == {BASE, "rose", "lora"}
    assert "Failed runs" not in write_tuning_report(wanted.folder)[0].read_text()
