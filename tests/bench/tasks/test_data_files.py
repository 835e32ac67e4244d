"""Reading files of every form, as the instruction benchmarks do."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import Table, parquet

from roselora.bench.tasks import arithmetic, commonsense, data_files
from roselora.bench.tasks.instructions import InstructionBenchmark
from roselora.errors import ConfigError
from tests.bench.conftest import FILES, HELLASWAG, Put, record

FAMILIES = (commonsense.BENCHMARK, arithmetic.BENCHMARK)


def read_everything(data: Path) -> None:
    for family in FAMILIES:
        for task in family.tasks("loreft").values():
            task.read(data)
        family.training_examples("loreft", data)


FINE = record("Is snow cold?", "true")
GSM8K = FILES["arithmetic/gsm8k_train.jsonl"][0]
MAWPS = FILES["arithmetic/mawps_trainset.json"][0]


@pytest.mark.parametrize(
    ("name", "fine", "bad", "what"),
    [
        ("commonsense/boolq_test.json", FINE, record("Is it?", "answer1"), "answer1"),
        ("commonsense/boolq_test.json", FINE, record(" ", "true"), "instruction"),
        ("commonsense/boolq_test.json", FINE, {"instruction": "Is it?"}, "answer"),
        ("commonsense/boolq_test.json", FINE, "a text", "'a text'"),
        ("commonsense/boolq_test.json", FINE, record("Is it?", ["true"]), "true"),  # type: ignore[arg-type]
        ("commonsense/boolq_train.json", FINE, record("Is it?", "yes"), "yes"),
        ("commonsense/hellaswag_rubriks.jsonl", HELLASWAG, HELLASWAG | {"label": 4}, "4"),
        ("commonsense/hellaswag_rubriks.jsonl", HELLASWAG, HELLASWAG | {"label": ""}, "its label is ''"),
        ("commonsense/hellaswag_rubriks.jsonl", HELLASWAG, HELLASWAG | {"endings": ["one"]}, "1 endings"),
        ("arithmetic/AQuA_test.json", record("2?", "A"), record("2?", "AB"), "AB"),
        ("arithmetic/SVAMP_test.json", record("2?", "2.0"), record("2?", "two"), "two"),
        ("arithmetic/SVAMP_test.json", record("2?", "2.0"), record("2?", "nan"), "nan"),
        ("arithmetic/SVAMP_test.json", record("2?", "2.0"), record("2?", 2), "answer"),  # type: ignore[arg-type]
        ("arithmetic/gsm8k_train.jsonl", GSM8K, GSM8K | {"answer": "It is 5."}, "####"),
        ("arithmetic/mawps_trainset.json", MAWPS, MAWPS | {"ans": "none"}, "none"),
        ("arithmetic/mawps_trainset.json", MAWPS, MAWPS | {"equation": None}, "equation"),
    ],
)
def test_a_malformed_record_is_one_sentence_that_names_file_and_record(
    name: str, fine: Any, bad: Any, what: str, data: Path, put: Put
) -> None:
    put(name, [fine, bad])
    with pytest.raises(ConfigError) as error:
        read_everything(data)
    assert str(error.value).startswith(f"Record 1 of {data / name} ")
    assert what in str(error.value)
    assert "\n" not in str(error.value)


def test_a_broken_line_is_named_by_its_number(data: Path, put: Put) -> None:
    put("commonsense/hellaswag_rubriks.jsonl", f"{json.dumps(HELLASWAG)}\n\n{{\n")
    with pytest.raises(ConfigError, match=r"hellaswag_rubriks\.jsonl cannot be read \(line 3: "):
        commonsense.BENCHMARK.tasks("loreft")["hellaswag"].read(data)


@pytest.mark.parametrize(
    ("content", "what"), [("{", "cannot be read"), ('{"a": 1}', "another format"), ("[]", "no records")]
)
def test_what_is_no_list_of_records_is_refused(content: str, what: str, data: Path, put: Put) -> None:
    put("arithmetic/AQuA_test.json", content)
    with pytest.raises(ConfigError, match=rf"AQuA_test\.json.*{what}"):
        arithmetic.BENCHMARK.tasks("loreft")["aqua"].read(data)


def test_a_missing_file_says_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no .*mawps_test\.json; point --data-dir"):
        arithmetic.BENCHMARK.tasks("loreft")["mawps"].read(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_data_folder_what_the_hub_is_not_known_to_have_asks_for_one(family: InstructionBenchmark) -> None:
    for name, task in family.tasks("loreft").items():
        if name not in ("hellaswag", "gsm8k"):
            with pytest.raises(ConfigError, match=r"No hub repository is known for .*: point --data-dir"):
                task.read(None)
    with pytest.raises(ConfigError, match="point --data-dir"):
        family.training_examples("loreft", None)


@pytest.mark.parametrize(
    ("family", "name", "content", "repository", "gold"),
    [
        (commonsense.BENCHMARK, "hellaswag", HELLASWAG | {"label": "2"}, "Rowan/hellaswag", "ending3"),
        (arithmetic.BENCHMARK, "gsm8k", GSM8K, "openai/gsm8k", "1200"),
    ],
)
def test_from_the_hub_the_same_questions_come_at_a_fixed_commit(
    family: InstructionBenchmark,
    name: str,
    content: Any,
    repository: str,
    gold: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "hub.parquet"
    parquet.write_table(Table.from_pylist([content]), path)
    asked: list[Any] = []

    def download(repo: str, file: str, **options: Any) -> str:
        asked.append((repo, options["repo_type"], len(options["revision"])))
        return str(path)

    monkeypatch.setattr(data_files, "hf_hub_download", download)
    read = family.tasks("loreft")[name].read(None)
    assert asked == [(repository, "dataset", 40)]
    (question,) = read.records
    assert question.gold == gold
    assert question.key.startswith(f"{repository}/")
    assert list(read.sources.values()) == [hashlib.sha256(path.read_bytes()).hexdigest()]


def test_a_hub_file_that_is_no_parquet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hub.parquet"
    path.write_text("not found")
    monkeypatch.setattr(data_files, "hf_hub_download", lambda *_, **__: str(path))
    with pytest.raises(ConfigError, match=r"hub\.parquet cannot be read"):
        arithmetic.BENCHMARK.tasks("loreft")["gsm8k"].read(None)


def test_a_record_nested_too_deeply_or_a_byte_order_mark_breaks_nothing(data: Path, put: Put) -> None:
    name = "commonsense/hellaswag_rubriks.jsonl"
    read = commonsense.BENCHMARK.tasks("loreft")["hellaswag"].read
    put(name, "\ufeff" + json.dumps(HELLASWAG)[:-1] + ', "note": "a\u2028b"}\n')
    assert len(read(data).records) == 1
    for depth in (500, 100_000):
        put(name, json.dumps(HELLASWAG)[:-1] + ', "ctx": ' + "[" * depth + "]" * depth + "}")
        with pytest.raises(ConfigError, match=r"Record 0 of|line 1: it is nested too deeply"):
            read(data)
