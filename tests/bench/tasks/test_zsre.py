import json
from pathlib import Path

import pytest

from roselora.bench.tasks.edit_case import EditCase, Probe
from roselora.bench.tasks.edit_datasets import DATASETS, read_cases
from roselora.errors import ConfigError

RECORD = {
    "subject": "Marmalade Lake",
    "src": "Where is Marmalade Lake?",
    "rephrase": "In which country is Marmalade Lake?",
    "alt": " Norway",
    "answers": ["Peru"],
    "loc": "nq question: who painted the blue door",
    "loc_ans": "Ada Plum",
}
QUESTION = {"Recalled Relation": "(x, y, z)", "New Question": "Which money buys a swim?", "New Answer": "Krone"}


def write(folder: Path, name: str, text: str) -> Path:
    (folder / "knowledge_editing").mkdir()
    (folder / "knowledge_editing" / DATASETS[name].file).write_text(text)
    return folder


def test_records_of_mends_shape_are_read_in_order(tmp_path: Path) -> None:
    records = [RECORD | {"portability": QUESTION}, RECORD | {"alt": "Chad", "portability": QUESTION}]
    first, second = read_cases("zsre_mend", write(tmp_path, "zsre_mend", json.dumps(records))).cases
    assert first == EditCase(
        "zsre_mend/0",
        "Where is Marmalade Lake?",
        "Norway",
        "Marmalade Lake",
        rephrasings=("In which country is Marmalade Lake?",),
        portability={"Reasoning": (Probe("Which money buys a swim?", ("Krone",)),)},
        locality={"Unrelated": (Probe("who painted the blue door?", ("Ada Plum",)),)},
    )
    assert (second.key, second.target) == ("zsre_mend/1", "Chad")


def test_the_lifelong_stream_is_the_same_without_portability(tmp_path: Path) -> None:
    (case,) = read_cases("zsre_stream", write(tmp_path, "zsre_stream", json.dumps([RECORD]))).cases
    assert case.key == "zsre_stream/0"
    assert case.portability == {}
    assert case.locality["Unrelated"] == (Probe("who painted the blue door?", ("Ada Plum",)),)


@pytest.mark.parametrize("text", [None, "{", '[{"src": "a"}]', '{"a": 1}'])
def test_a_missing_or_foreign_file_is_refused_in_one_sentence(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        write(tmp_path, "zsre_mend", text)
    with pytest.raises(ConfigError, match=r"zsre_mend_edit\.json"):
        read_cases("zsre_mend", tmp_path)
