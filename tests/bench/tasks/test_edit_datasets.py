import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from roselora.bench.tasks import data_files
from roselora.bench.tasks.edit_case import EditCase, Probe
from roselora.bench.tasks.edit_datasets import DATASETS, read_cases
from roselora.errors import ConfigError

Write = Callable[[str, Any], Path]

FACT = {
    "subject": "Marmalade Lake",
    "prompt": "The country of Marmalade Lake is",
    "target_new": "Norway",
    "portability": {},
    "locality": {},
}
PASSAGE = {
    "text": "This is a passage about ada plum. ",
    "labels": "Plum grew pears.",
    "concept": "ada plum",
    "locality": {"Relation_Specificity": [{"prompt": "The birthplace of ada plum is", "ground_truth": ["Oslo"]}]},
}
NEIGHBOUR = {
    "case_id": 7,
    "prompt": "Reedy Hill is in",
    "target_new": "Asia",
    "subject": "Reedy Hill",
    "ground_truth": "Europe",
    "rephrase_prompt": "It rained. Reedy Hill lies in",
    "locality_prompt": "Mossy Hill, in",
    "locality_ground_truth": "Europe",
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Puts a benchmark's file into a data folder, and gives that folder."""

    def put(name: str, content: Any) -> Path:
        folder = tmp_path / "knowledge_editing"
        folder.mkdir(exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / DATASETS[name].file).write_text(text, encoding="utf-8")
        return tmp_path

    return put


def only(name: str, folder: Path) -> EditCase:
    (case,) = read_cases(name, folder).cases
    return case


@pytest.mark.parametrize("name", [name for name in DATASETS if name.startswith(("wikidata", "zsre"))][:3])
def test_knowedit_records_keep_their_fields_and_the_names_of_their_sub_types(name: str, write: Write) -> None:
    record = FACT | {
        "portability": {"Reasoning": [{"prompt": "Its capital is", "ground_truth": [["Oslo", "Kristiania"]]}]},
        "locality": {"Forgetfulness": [{"prompt": "Its depth is", "ground_truth": [["9 m"]]}]},
    }
    assert only(name, write(name, [record])) == EditCase(
        key=f"{name}/0",
        prompt="The country of Marmalade Lake is",
        target="Norway",
        subject="Marmalade Lake",
        portability={"Reasoning": (Probe("Its capital is", ("Oslo", "Kristiania")),)},
        locality={"Forgetfulness": (Probe("Its depth is", ("9 m",)),)},
    )


@pytest.mark.parametrize(
    ("truth", "answers"),
    [
        ("Oslo", ("Oslo",)),
        (["Oslo", "Kristiania"], ("Oslo", "Kristiania")),
        ([["Oslo", "Kristiania"]], ("Oslo", "Kristiania")),
        ([["Oslo"], ["Bergen", "Oslo"]], ("Oslo", "Bergen")),
        ([["Oslo"], []], ("Oslo",)),
        ([[], ["Oslo"]], ("Oslo",)),
        (["", " Oslo "], ("Oslo",)),
    ],
)
def test_every_shape_of_ground_truth_gives_all_its_answers_with_easyedits_first(
    truth: Any, answers: tuple[str, ...], write: Write
) -> None:
    record = FACT | {"locality": {"Forgetfulness": [{"prompt": "Its capital is", "ground_truth": truth}]}}
    assert only("wikidata_recent", write("wikidata_recent", [record])).locality["Forgetfulness"][0].answers == answers


@pytest.mark.parametrize("truth", ["", " ", [], [[]], [["", " "], []]])
def test_questions_that_nothing_could_judge_are_left_out_and_counted(truth: Any, write: Write) -> None:
    capital = {"prompt": "Its capital is", "ground_truth": truth}
    record = FACT | {
        "portability": {"Reasoning": [capital], "Empty": []},
        "locality": {"Other": [capital, {"prompt": " ", "ground_truth": "9 m"}]},
    }
    read = read_cases("wikidata_counterfact", write("wikidata_counterfact", [record]))
    assert read.cases[0].portability == {}
    # What must not move is compared with the base, so its answer may be missing.
    assert read.cases[0].locality == {"Other": (Probe("Its capital is", ()),)}
    assert read.unanswered == 2


def test_questions_that_are_the_edits_own_prompt_are_left_out_and_counted(write: Write) -> None:
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
    assert read.unanswered == 3


def test_both_kinds_of_paraphrases_are_rephrasings_without_numbers_blanks_and_notes(write: Write) -> None:
    record = FACT | {
        "rephrase_prompt": "Where is Marmalade Lake?",
        "generate_prompt": [
            "1. In which land is it?",
            "12) Its land is",
            "",
            "(Note: it is short.)",
            "3 men own",
        ],
    }
    read = read_cases("zsre", write("zsre", [record]))
    assert read.cases[0].rephrasings == (
        "Where is Marmalade Lake?",
        "In which land is it?",
        "Its land is",
        "3 men own",
    )
    assert read.unanswered == 1


def test_wikibio_asks_for_the_sentence_that_follows_the_passage(write: Write) -> None:
    assert only("wikibio", write("wikibio", [PASSAGE])) == EditCase(
        "wikibio/0",
        "This is a passage about ada plum.",
        "Plum grew pears.",
        "ada plum",
        locality={"Relation_Specificity": (Probe("The birthplace of ada plum is", ("Oslo",)),)},
    )


def test_the_counterfact_stream_has_a_rephrasing_and_a_neighbour(write: Write) -> None:
    assert only("counterfact_stream", write("counterfact_stream", [NEIGHBOUR])) == EditCase(
        "counterfact_stream/0",
        "Reedy Hill is in",
        "Asia",
        "Reedy Hill",
        rephrasings=("It rained. Reedy Hill lies in",),
        locality={"Neighborhood": (Probe("Mossy Hill, in", ("Europe",)),)},
    )


def test_records_that_cannot_be_asked_for_are_reported_by_key_and_do_not_end_the_reading(write: Write) -> None:
    records = [FACT | {"prompt": " "}, FACT | {"target_new": ""}, FACT | {"target_new": "Nor\nway"}, FACT]
    read = read_cases("wikidata_recent", write("wikidata_recent", records))
    assert [case.key for case in read.cases] == ["wikidata_recent/3"]
    assert read.left_out == {
        "wikidata_recent/0": "The prompt of an edit must not be empty.",
        "wikidata_recent/1": "The target of an edit must not be empty.",
        "wikidata_recent/2": "The target must be one line, for an answer ends at its line's end: 'Nor\\nway'.",
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


def test_questions_whose_answer_is_the_edited_facts_old_one_are_set_apart(write: Write) -> None:
    same, other = (
        {"prompt": "The depth of Wet Lake is", "ground_truth": ["the 9 m"]},
        {"prompt": "Wet Lake lies in", "ground_truth": ["Peru"]},
    )
    record = FACT | {"ground_truth": ["9 m"], "locality": {"Relation_Specificity": [same, other]}}
    case = only("zsre", write("zsre", [record]))
    assert [probe.prompt for probe in case.locality["Relation_Specificity"]] == ["Wet Lake lies in"]
    assert [probe.prompt for probe in case.locality["Same_Answer"]] == ["The depth of Wet Lake is"]
