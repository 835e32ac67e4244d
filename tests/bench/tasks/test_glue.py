"""GLUE's sets from their files to a report, with a tiny encoder."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MPNetConfig, MPNetForMaskedLM

from roselora.bench.records.run_files import read_records
from roselora.bench.records.tuning_bench_records import Answered, TrainedUnit
from roselora.bench.report.joined_report import write_joined_report
from roselora.bench.running.task_answers import ask
from roselora.bench.running.tuning_plan import TuningRequest, make_plan
from roselora.bench.running.tuning_run import run
from roselora.bench.tasks import glue
from roselora.errors import ConfigError
from roselora.models.loading import load
from roselora.models.task_heads import classifier


def tsv(header: str, lines: list[str]) -> str:
    return "\n".join([header, *lines]) + "\n"


def rte(count: int) -> str:
    lines = [f"{i}\tA {i} b.\tIt is {i}.\t{'entailment' if i % 2 else 'not_entailment'}" for i in range(count)]
    return tsv("index\tsentence1\tsentence2\tlabel", lines)


def stsb(count: int) -> str:
    return tsv("sentence1\tsentence2\tscore", [f"One {i}.\tTwo {i}.\t{i % 6 / 1.2:.3f}" for i in range(count)])


@pytest.fixture
def glue_data(put: Any, tmp_path: Path) -> Path:
    (tmp_path / "glue").mkdir()
    for name, text in {
        "RTE/train": rte(8),
        "RTE/dev": rte(7),
        "STS-B/train": stsb(8),
        "STS-B/dev": stsb(9),
    }.items():
        put(f"glue/{name}.tsv", text)
    return tmp_path


@pytest.fixture
def encoder(tmp_path: Path, tiny_tokenizer: Any) -> Path:
    torch.manual_seed(0)
    config = MPNetConfig(
        vocab_size=len(tiny_tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    folder = tmp_path / "encoder"
    MPNetForMaskedLM(config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def wanted(glue_data: Path, encoder: Path, tmp_path: Path) -> TuningRequest:
    return TuningRequest(
        benchmark="glue/rte",
        protocol=glue.PROTOCOL,
        model=str(encoder),
        methods=("rose", "lora"),
        seeds=(0, 1),
        folder=tmp_path / "out" / "rte",
        overrides=("training.max_steps=2", "adapter.rank=2", "adapter.density=0.5", "training.batch_size=4"),
        data_dir=glue_data,
        command="roselora bench glue",
    )


def nothing(doing: str, done: int, of: int) -> None:
    """Where progress is of no interest."""


def test_no_row_of_validation_both_selects_and_scores(glue_data: Path) -> None:
    scoring = glue.task("rte").read(glue_data).records
    selecting = glue.selecting_rows("rte", glue_data).records
    asked = {(question.prompt, question.pair, question.gold) for question in scoring}
    chosen = {(row["text"], row["text_pair"], row["label"]) for row in selecting}
    assert (len(asked), len(chosen), len(asked | chosen)) == (4, 3, 7)
    assert all(question.key.startswith("RTE/dev.tsv:") for question in scoring)


def test_a_set_is_trained_selected_scored_and_reported(wanted: TuningRequest) -> None:
    choosing = replace(wanted, rates=(1e-5, 1e-2))
    plan = make_plan(choosing)
    assert ("base", 0) not in plan.units, "a new head says nothing before it is trained"
    assert len(plan.held_out) == 3
    run(plan, nothing, batch_size=3)
    assert {(unit.method, unit.seed) for unit in read_records(wanted.folder, TrainedUnit)} == {
        (method, seed) for method in ("rose", "lora") for seed in (0, 1)
    }
    answers = read_records(wanted.folder, Answered)
    assert len(answers) == len({(a.method, a.seed, a.prediction.key) for a in answers}) == 4 * 4
    assert {a.prediction.answer for a in answers} <= {"entailment", "not_entailment"}
    run(make_plan(choosing), nothing)
    assert read_records(wanted.folder, Answered) == answers


def test_a_regressions_predictions_are_numbers(wanted: TuningRequest) -> None:
    regression = replace(wanted, benchmark="glue/stsb", folder=wanted.folder.parent / "stsb", methods=("rose",))
    run(make_plan(regression), nothing)
    answers = read_records(regression.folder, Answered)
    assert len(answers) == 5 * 2
    assert all(float(a.prediction.said) == pytest.approx(a.prediction.score, rel=1e-4) for a in answers)


def test_the_joined_report_has_every_part(wanted: TuningRequest) -> None:
    for name in ("rte", "stsb"):
        part = replace(wanted, benchmark=f"glue/{name}", folder=wanted.folder.parent / name, seeds=(0,))
        run(make_plan(part), nothing)
    paths = write_joined_report(wanted.folder.parent, "GLUE")
    shown = paths[0].read_text()
    assert "| method | rte (8 records) | stsb (8 records) | average |" in shown
    document = json.loads(paths[1].read_text())
    assert set(document) == {"rte", "stsb"}
    assert "Pearson correlation" in (wanted.folder.parent / "stsb" / "report.md").read_text()


def test_what_is_saved_says_what_was_trained(wanted: TuningRequest) -> None:
    """The predictions come from the files: a head or pooler drawn anew would give others."""
    one = replace(wanted, seeds=(1,), methods=("full",))
    plan = make_plan(one)
    run(plan, nothing)
    (unit,) = read_records(one.folder, TrainedUnit)
    folder = Path(plan.at("full", 1, unit.learning_rate).output) / "model"
    loaded = load(folder, head=classifier(glue.labels("rte")))
    batches = ask(loaded.model, loaded.tokenizer, plan.tasks["rte"], plan.questions["rte"])
    assert [p for batch in batches for p in batch] == [a.prediction for a in read_records(one.folder, Answered)]


def test_batches_make_no_difference_to_a_classifier(encoder: Path, glue_data: Path) -> None:
    torch.manual_seed(0)
    loaded = load(encoder, head=classifier(()))
    task = glue.task("stsb")
    questions = [*task.read(glue_data).records]
    questions[0] = replace(questions[0], prompt="A much longer sentence than the others are.")
    alone, together = (
        sorted(
            (p.key, p.score)
            for batch in ask(loaded.model, loaded.tokenizer, task, questions, batch_size=size)
            for p in batch
        )
        for size in (1, 5)
    )
    assert [key for key, _ in alone] == [key for key, _ in together]
    assert [score for _, score in alone] == pytest.approx([score for _, score in together], abs=1e-5)


def test_without_a_folder_the_data_is_asked_for(wanted: TuningRequest) -> None:
    with pytest.raises(ConfigError, match="data-dir"):
        make_plan(replace(wanted, data_dir=None))
