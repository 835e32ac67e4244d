"""GLUE's sets from files of their shapes, and from the hub, to a report, with a tiny encoder and our own sentences."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow import Table, parquet
from transformers import MPNetConfig, MPNetForMaskedLM

from roselora.bench.records.run_files import read_records
from roselora.bench.records.tuning_bench_records import Answered, TrainedUnit
from roselora.bench.report.joined_report import write_joined_report
from roselora.bench.running.eta import RunProgress
from roselora.bench.running.task_answers import ask
from roselora.bench.running.tuning_plan import TuningRequest, make_plan
from roselora.bench.running.tuning_run import run
from roselora.bench.tasks import data_files, glue
from roselora.errors import ConfigError
from roselora.files import sha256_file
from roselora.models.loading import load
from roselora.models.task_heads import classifier

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(name: str, content: str) -> Path:
        path = tmp_path / "glue" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8", newline="")
        return path

    return put


def test_cola_has_no_header_and_quotes_are_letters(write: Write, tmp_path: Path) -> None:
    path = write("CoLA/dev.tsv", 'xx\t1\t\t"No," said Ada.\nxx\t0\t*\tThe "sang bird.\n')
    read = glue.SETS["cola"].read_part("dev", tmp_path)
    assert read.records == [
        {"text": '"No," said Ada.', "label": "acceptable"},
        {"text": 'The "sang bird.', "label": "unacceptable"},
    ]
    assert read.sources == {"CoLA/dev.tsv": sha256_file(path)}


def test_mrpc_begins_with_a_byte_order_mark_and_may_end_its_lines_as_dos_does(write: Write, tmp_path: Path) -> None:
    write("MRPC/dev.tsv", "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t7\t8\tA cat.\tOne cat.\r\n")
    assert glue.SETS["mrpc"].read_part("dev", tmp_path).records == [
        {"text": "A cat.", "text_pair": "One cat.", "label": "equivalent"}
    ]


def test_a_line_ends_at_its_newline_alone(write: Write, tmp_path: Path) -> None:
    write("SST-2/train.tsv", "sentence\tlabel\nfine\u2028really \t1\n")
    assert glue.SETS["sst2"].read_part("train", tmp_path).records == [
        {"text": "fine\u2028really ", "label": "positive"}
    ]


def test_stsb_is_a_regression(write: Write, tmp_path: Path) -> None:
    head = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
    write("STS-B/dev.tsv", f"{head}0\tg\tf\ty\t1\tnone\tnone\tA dog runs.\tA dog ran.\t4.250\n")
    assert glue.SETS["stsb"].read_part("dev", tmp_path).records == [
        {"text": "A dog runs.", "text_pair": "A dog ran.", "label": 4.25}
    ]
    write("STS-B/dev.tsv", f"{head}0\tg\tf\ty\t1\tnone\tnone\tA dog runs.\tA dog ran.\tnan\n")
    with pytest.raises(ConfigError, match=r"Record 0 of .*dev.tsv"):
        glue.SETS["stsb"].read_part("dev", tmp_path)


@pytest.mark.parametrize(
    ("name", "folder", "written", "label"),
    [
        ("qqp", "QQP", "1", "duplicate"),
        ("mnli", "MNLI", "neutral", "neutral"),
        ("qnli", "QNLI", "entailment", "entailment"),
    ],
)
def test_the_subsets_are_json(write: Write, tmp_path: Path, name: str, folder: str, written: str, label: str) -> None:
    record = {"text_a": "Who sings?", "text_b": "Ada sings.", "label": written}
    write(f"{folder}/subset_train.json", json.dumps({"0": record, "1": record}))
    row = {"text": "Who sings?", "text_pair": "Ada sings.", "label": label}
    assert glue.SETS[name].read_part("train", tmp_path).records == [row, row]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\n", "record 0 has 3 cells, not 4"),
        ("index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tmaybe\n", "its label is 'maybe'"),
        ("index\tsentence1\tsentence2\tlabel\n0\t \tB.\tentailment\n", "its sentence1 is ' '"),
        ("index\tsentence1\tlabel\n0\tA.\tentailment\n", "Record 0"),
        ("index\tsentence1\tsentence2\tlabel\n", "holds no records"),
        ("", "it is empty"),
    ],
)
def test_what_is_of_another_format_is_one_sentence(write: Write, tmp_path: Path, content: str, says: str) -> None:
    path = write("RTE/dev.tsv", content)
    with pytest.raises(ConfigError, match=says) as error:
        glue.SETS["rte"].read_part("dev", tmp_path)
    assert str(path) in str(error.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    for name in glue.SETS:
        with pytest.raises(ConfigError, match="There is no"):
            glue.SETS[name].read_part("dev", tmp_path)


def test_half_of_validation_selects_and_of_a_large_one_a_thousand() -> None:
    small: list[Any] = list(range(277))
    selecting, scoring = glue.split_validation(small, 42)
    assert (len(selecting), len(scoring)) == (138, 139)
    assert sorted(selecting + scoring) == small
    assert selecting == sorted(selecting)
    assert glue.split_validation(small, 42) == (selecting, scoring)
    assert glue.split_validation(small, 43) != (selecting, scoring)
    assert [len(part) for part in glue.split_validation(range(5001), 0)] == [1000, 4001]
    assert [len(part) for part in glue.split_validation(range(5000), 0)] == [2500, 2500]


ROWS: dict[str, list[dict[str, Any]]] = {
    "cola": [{"sentence": "He sleeps.", "label": 1, "idx": 0}],
    "mnli": [{"premise": "It rains.", "hypothesis": "It is dry.", "label": 2, "idx": 0}],
    "qnli": [{"question": "Who?", "sentence": "Ada did.", "label": 0, "idx": 0}],
    "stsb": [{"sentence1": "A cat.", "sentence2": "A dog.", "label": 1.25, "idx": 0}],
}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the hub is asked for: it has the rows above, whichever part is asked."""
    files: list[tuple[str, str]] = []

    def download(repository: str, path: str, *, repo_type: str, revision: str) -> str:
        assert (repository, repo_type) == ("nyu-mll/glue", "dataset")
        files.append((path, revision))
        target = tmp_path / path.replace("/", "-")
        parquet.write_table(Table.from_pylist(ROWS[path.partition("/")[0]]), target)
        return str(target)

    monkeypatch.setattr(data_files, "hf_hub_download", download)
    return files


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("cola", {"text": "He sleeps.", "label": "acceptable"}),
        ("mnli", {"text": "It rains.", "text_pair": "It is dry.", "label": "contradiction"}),
        ("qnli", {"text": "Who?", "text_pair": "Ada did.", "label": "entailment"}),
        ("stsb", {"text": "A cat.", "text_pair": "A dog.", "label": 1.25}),
    ],
)
def test_rows_from_the_hub_are_those_of_a_folder(name: str, row: dict[str, Any], asked: list[tuple[str, str]]) -> None:
    read = glue.SETS[name].read_part("train", None)
    assert read.records == [row]
    assert asked == [(f"{name}/train-00000-of-00001.parquet", glue.REVISION)]
    assert list(read.sources) == [f"nyu-mll/glue/{name}/train-00000-of-00001.parquet"]


def test_mnli_is_scored_on_the_matched_half(asked: list[tuple[str, str]]) -> None:
    glue.SETS["mnli"].read_part("dev", None)
    assert asked[0][0] == "mnli/validation_matched-00000-of-00001.parquet"


def test_files_and_hub_agree_which_sets_are_of_pairs() -> None:
    for glue_set in glue.SETS.values():
        assert (glue_set.columns.text_pair is None) == (glue_set.hub_columns.text_pair is None)


def test_a_row_without_a_class_is_refused_with_its_number(
    asked: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ROWS, "cola", [{"sentence": "He sleeps.", "label": -1, "idx": 0}])
    with pytest.raises(ConfigError, match=r"Record 0.*its label is -1"):
        glue.SETS["cola"].read_part("train", None)


def test_without_network_the_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(data_files, "hf_hub_download", unreachable)
    with pytest.raises(ConfigError, match=r"^rte/train-.*could not be fetched.*holds glue/RTE/train\.tsv"):
        glue.SETS["rte"].training_examples(glue.PROTOCOL, None)


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


def nothing(at: RunProgress) -> None:
    """Where progress is of no interest."""


def test_no_row_of_validation_both_selects_and_scores(glue_data: Path) -> None:
    scoring = glue.SETS["rte"].tasks(glue.PROTOCOL)["rte"].read(glue_data).records
    selecting = glue.SETS["rte"].validation_examples(glue_data).records
    asked = {(question.prompt, question.pair, question.gold) for question in scoring}
    chosen = {(row["text"], row["text_pair"], row["label"]) for row in selecting}
    assert (len(asked), len(chosen), len(asked | chosen)) == (4, 3, 7)
    assert all(question.key.startswith("RTE/dev.tsv:") for question in scoring)


def test_a_set_is_trained_selected_scored_and_reported(wanted: TuningRequest) -> None:
    choosing = replace(wanted, rates=(1e-5, 1e-2))
    plan = make_plan(choosing)
    assert ("base", 0) not in plan.units, "a new head says nothing before it is trained"
    assert len(plan.data.validation) == 3
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
    loaded = load(folder, head=classifier(glue.SETS["rte"].labels))
    batches = ask(loaded.model, loaded.tokenizer, plan.tasks["rte"], plan.questions["rte"])
    assert [p for batch in batches for p in batch] == [a.prediction for a in read_records(one.folder, Answered)]


def test_batches_make_no_difference_to_a_classifier(encoder: Path, glue_data: Path) -> None:
    torch.manual_seed(0)
    loaded = load(encoder, head=classifier(()))
    task = glue.SETS["stsb"].tasks(glue.PROTOCOL)["stsb"]
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
