import hashlib
import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from roselora.bench.tasks import data_files
from roselora.bench.tasks.edit_case import Probe
from roselora.bench.tasks.edit_datasets import read_cases
from roselora.errors import ConfigError
from tests.bench.tasks.conftest import FACT, Write
from tests.bench.tasks.test_knowedit import PASSAGE


@pytest.mark.parametrize("truth", ["", " ", [], [[]], [["", " "], []]])
def test_questions_that_nothing_could_judge_are_left_out(truth: Any, write: Write) -> None:
    capital = {"prompt": "Its capital is", "ground_truth": truth}
    record = FACT | {
        "portability": {"Reasoning": [capital], "Empty": []},
        "locality": {"Other": [capital, {"prompt": " ", "ground_truth": "9 m"}]},
    }
    read = read_cases("wikidata_counterfact", write("wikidata_counterfact", [record]))
    assert read.cases[0].portability == {}
    # What must not move is compared with the base, so its answer may be missing.
    assert read.cases[0].locality == {"Other": (Probe("Its capital is", ()),)}


def test_questions_that_are_the_edits_own_prompt_are_left_out(write: Write) -> None:
    own = {"prompt": " the country of  Marmalade Lake is:", "ground_truth": "Norway"}
    record = FACT | {
        "rephrase_prompt": "The country of Marmalade Lake is ",
        "portability": {"Subject_Aliasing": [own]},
        "locality": {"Other": [own, {"prompt": "The country of Marmalade Lake is not", "ground_truth": "Chad"}]},
    }
    read = read_cases("zsre", write("zsre", [record]))
    case = read.cases[0]
    assert case.rephrasings == ()
    assert case.portability == {}
    assert [probe.prompt for probe in case.locality["Other"]] == ["The country of Marmalade Lake is not"]


def test_records_that_cannot_be_asked_for_are_reported_by_key_and_do_not_end_the_reading(write: Write) -> None:
    records = [FACT | {"prompt": " "}, FACT | {"target_new": ""}, FACT | {"target_new": "Nor\nway"}, FACT]
    read = read_cases("wikidata_recent", write("wikidata_recent", records))
    assert [case.key for case in read.cases] == ["wikidata_recent/3"]
    assert read.left_out == {
        "wikidata_recent/0": "The prompt of an edit must not be empty.",
        "wikidata_recent/1": "The target of an edit must not be empty.",
        "wikidata_recent/2": "The target must be one line, because an answer ends with its line: 'Nor\\nway'.",
    }


def test_the_file_that_was_read_is_named_with_its_hash(write: Write) -> None:
    read = read_cases("wikibio_train", write("wikibio_train", [PASSAGE]))
    assert read.file == "wikibio-train-all.json"
    assert read.sha256 == hashlib.sha256(json.dumps([PASSAGE]).encode()).hexdigest()


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ({"a": 1}, "has no 'prompt'"),
        (FACT | {"target_new": None}, "target_new is None"),
        (FACT | {"locality": {"Other": "x"}}, "its locality.Other is 'x': Input should be a valid list"),
        (FACT | {"locality": {"Other": [{"prompt": "x"}]}}, "has no 'locality.Other.0.ground_truth'"),
        (
            FACT | {"locality": {"Other": [{"prompt": "x", "ground_truth": [3]}]}},
            "its locality.Other.0.ground_truth is [3]",
        ),
        ("a text", "it is 'a text': it is not an object"),
    ],
)
def test_a_file_of_another_format_is_refused_in_one_sentence_that_names_file_and_record(
    record: Any, what: str, write: Write
) -> None:
    folder = write("wikidata_recent", [FACT, record])
    with pytest.raises(ConfigError) as error:
        read_cases("wikidata_recent", folder)
    message = str(error.value)
    assert message.startswith(f"Record 1 of {folder / 'knowledge_editing' / 'wikidata_recent_test.json'} ")
    assert what in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["{", '{"a": 1}', "[" * 100_000])
def test_what_is_no_list_of_records_is_refused_by_its_files_name(text: str, write: Write) -> None:
    with pytest.raises(ConfigError, match=r"wikibio_test\.json"):
        read_cases("wikibio", write("wikibio", text))


def test_a_missing_file_and_an_unknown_name_say_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"zsre_test\.json; point --data-dir"):
        read_cases("zsre", tmp_path)
    with pytest.raises(ConfigError, match="no benchmark 'zsrs': name one of wikidata_recent, "):
        read_cases("zsrs", tmp_path)


def test_without_a_data_folder_the_file_comes_from_the_hub(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write("zsre", [FACT])
    asked: list[Any] = []

    def download(repo: str, file: str, **options: Any) -> str:
        asked.append((repo, file, options["repo_type"]))
        return str(folder / "knowledge_editing" / "zsre_test.json")

    monkeypatch.setattr(data_files, "hf_hub_download", download)
    assert len(read_cases("zsre", None).cases) == 1
    assert asked == [("zjunlp/KnowEdit", "benchmark/ZsRE/ZsRE-test-all.json", "dataset")]


def test_offline_the_hubs_failure_is_one_sentence_that_asks_for_a_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"zjunlp/KnowEdit .*--data-dir .*zsre_test\.json") as error:
        read_cases("zsre", None)
    assert "\n" not in str(error.value)


def test_a_failure_of_the_network_is_a_sentence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("nothing cached.\nmore")

    monkeypatch.setattr(data_files, "hf_hub_download", fail)
    with pytest.raises(ConfigError, match=r"\(nothing cached\)"):
        read_cases("wikibio", None)


def test_what_no_hub_has_is_asked_for_as_a_file() -> None:
    with pytest.raises(ConfigError, match=r"No hub repository .*locft_zsre_3k\.json: point --data-dir"):
        read_cases("zsre_stream", None)
