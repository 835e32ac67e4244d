"""Facts from files: what is read, and what is refused with the line that is wrong."""

import json
from pathlib import Path

import pytest

from roselora.editing.fact_files import read_requests
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError

FULL = {"prompt": "A is", "target": " B", "subject": "A", "rephrasings": ["What is A?"], "keep": ["C is"]}
REQUESTS = [EditRequest("A is", "B", "A", ("What is A?",), ("C is",)), EditRequest("D is", "E")]


def test_a_fact_a_line_or_one_list_of_facts(tmp_path: Path) -> None:
    facts = [FULL, {"prompt": "D is", "target": "E"}]
    (tmp_path / "facts.jsonl").write_text("\n\n".join(map(json.dumps, facts)) + "\n")
    (tmp_path / "facts.json").write_text(json.dumps(facts, indent=2))
    assert read_requests(tmp_path / "facts.jsonl") == REQUESTS
    assert read_requests(tmp_path / "facts.json") == REQUESTS


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "Line 2 of .* is not JSON"),
        ("[1]", "Line 2 of .* is not an object"),
        ('{"prompt": "A is"}', "Line 2 of .* has no text as its target"),
        ('{"prompt": 3, "target": "B"}', "Line 2 of .* has no text as its prompt"),
        ('{"prompt": "A is", "target": "B", "answer": "C"}', "Line 2 of .* the unknown field 'answer'"),
        ('{"prompt": "A is", "target": "B", "subject": 7}', "Line 2 of .* a subject that is no text"),
        ('{"prompt": "A is", "target": "B", "keep": "C is"}', "Line 2 of .* a list of texts as its keep"),
        ('{"prompt": "A is", "target": " "}', "Line 2 of .*The target of an edit must not be empty"),
    ],
)
def test_a_line_that_cannot_be_meant_is_named(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "facts.jsonl"
    file.write_text(json.dumps(FULL) + "\n" + line)
    with pytest.raises(ConfigError, match=said):
        read_requests(file)


def test_files_that_hold_no_facts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_requests(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ConfigError, match="holds no facts"):
        read_requests(tmp_path / "empty.jsonl")
    (tmp_path / "one.json").write_text(json.dumps(FULL))
    with pytest.raises(ConfigError, match="a list of facts"):
        read_requests(tmp_path / "one.json")
