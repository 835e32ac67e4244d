from typing import Any

import pytest

from roselora.bench.tasks.edit_case import EditCase, Probe
from roselora.bench.tasks.edit_datasets import DATASETS, read_cases
from tests.bench.tasks.conftest import FACT, Write, only

PASSAGE = {
    "text": "This is a passage about ada plum. ",
    "labels": "Plum grew pears.",
    "concept": "ada plum",
    "locality": {"Relation_Specificity": [{"prompt": "The birthplace of ada plum is", "ground_truth": ["Oslo"]}]},
}


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


def test_wikibio_asks_for_the_sentence_that_follows_the_passage(write: Write) -> None:
    assert only("wikibio", write("wikibio", [PASSAGE])) == EditCase(
        "wikibio/0",
        "This is a passage about ada plum.",
        "Plum grew pears.",
        "ada plum",
        locality={"Relation_Specificity": (Probe("The birthplace of ada plum is", ("Oslo",)),)},
    )


def test_questions_whose_answer_is_the_edited_facts_old_one_are_set_apart(write: Write) -> None:
    same, other = (
        {"prompt": "The depth of Wet Lake is", "ground_truth": ["the 9 m"]},
        {"prompt": "Wet Lake lies in", "ground_truth": ["Peru"]},
    )
    record = FACT | {"ground_truth": ["9 m"], "locality": {"Relation_Specificity": [same, other]}}
    case = only("zsre", write("zsre", [record]))
    assert [probe.prompt for probe in case.locality["Relation_Specificity"]] == ["Wet Lake lies in"]
    assert [probe.prompt for probe in case.locality["Same_Answer"]] == ["The depth of Wet Lake is"]
