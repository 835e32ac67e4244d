import json
from pathlib import Path

import pytest

from roselora.errors import ConfigError
from roselora.evaluation.zsre import EditCase, read_zsre_mend


def test_records_of_mends_shape_are_read_in_order(tmp_path: Path) -> None:
    record = {
        "subject": "Marmalade Lake",
        "src": "Where is Marmalade Lake?",
        "rephrase": "In which country is Marmalade Lake?",
        "alt": "Norway",
        "loc": "nq question: who painted the blue door",
    }
    (tmp_path / "knowledge_editing").mkdir()
    (tmp_path / "knowledge_editing" / "zsre_mend_edit.json").write_text(json.dumps([record, {**record, "alt": "Peru"}]))
    first, second = read_zsre_mend(tmp_path)
    assert first == EditCase(record["src"], "Norway", record["rephrase"], "who painted the blue door?")
    assert second.target == "Peru"


@pytest.mark.parametrize("text", [None, "{", '[{"src": "a"}]', '{"a": 1}'])
def test_a_missing_or_foreign_file_is_refused_in_one_sentence(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "knowledge_editing").mkdir()
    if text is not None:
        (tmp_path / "knowledge_editing" / "zsre_mend_edit.json").write_text(text)
    with pytest.raises(ConfigError, match=r"zsre_mend_edit\.json"):
        read_zsre_mend(tmp_path)
