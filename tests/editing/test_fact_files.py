"""Facts from files: what is read, and what is refused with the line that is wrong."""

import json
from pathlib import Path
from typing import Any

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


def test_a_fact_says_in_which_forms_it_is_to_hold(tmp_path: Path) -> None:
    facts = [{"prompt": "A is", "target": "B", "form": form} for form in ("bare", "chat", "both")]
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    assert [request.form for request in read_requests(tmp_path / "facts.json")] == ["bare", "chat", "both"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: it is not JSON"),
        ("[1]", "Line 2 of .* is not an object"),
        ('{"prompt": "A is"}', "Line 2 of .* has no target"),
        ('{"prompt": 3, "target": "B"}', "Line 2 of .*: The prompt of an edit must be a text, not 3"),
        ('{"prompt": "A is", "target": "B", "answer": "C"}', "Line 2 of .* the unknown field 'answer'"),
        (
            '{"prompt": "A is", "target": "B", "subject": 7}',
            "Line 2 of .*: The subject of an edit must be a text",
        ),
        ('{"prompt": "A is", "target": "B", "keep": "C is"}', "Line 2 of .*: keep must be a list of texts, not 'C is'"),
        ('{"prompt": "A is", "target": "B", "keep": null}', "Line 2 of .*: keep must be a list of texts, not None"),
        ('{"prompt": "A is", "target": "B", "keep": {"C is": 1}}', "Line 2 of .*: keep must be a list of texts"),
        ('{"prompt": "A is", "target": "B", "space": "no"}', "Line 2 of .*: space must be true or false"),
        ('{"prompt": "A is", "target": "B", "form": "loud"}', "Line 2 of .*: form must be one of bare, chat, both"),
        ('{"prompt": "\\udcba is", "target": "B"}', "Line 2 of .*: The prompt of an edit has a lone surrogate"),
        ("[" * 100_000, "line 2: it is nested too deeply"),
        ('{"prompt": "A is", "target": " "}', "Line 2 of .*The target of an edit must not be empty"),
    ],
)
def test_the_error_names_the_invalid_line(tmp_path: Path, line: str, said: str) -> None:
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
    with pytest.raises(ConfigError, match=r"a \.json file one list"):
        read_requests(tmp_path / "one.json")


def test_a_mark_at_the_beginning_and_separators_within_a_text_are_read_as_they_stand(tmp_path: Path) -> None:
    prompt = "A\u2028B\x85C\u2029 is"
    line = json.dumps({"prompt": prompt, "target": "D", "space": False}, ensure_ascii=False)
    (tmp_path / "facts.jsonl").write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\r\n")
    assert read_requests(tmp_path / "facts.jsonl") == [EditRequest(prompt, "D", space=False)]


def test_a_table_has_a_field_in_each_column_and_a_text_of_a_list_on_each_line(tmp_path: Path) -> None:
    table = (
        "target,prompt,subject,rephrasings,space,form\r\n"
        'Lyon,"The capital of ""France"", they say, is",France,"One\nTwo",TRUE,bare\r\n'
        "\r\n"
        "Oslo,Where is it?,,,,\r\n"
    )
    (tmp_path / "facts.CSV").write_bytes(b"\xef\xbb\xbf" + table.encode())
    assert read_requests(tmp_path / "facts.CSV") == [
        EditRequest('The capital of "France", they say, is', "Lyon", "France", ("One", "Two"), space=True, form="bare"),
        EditRequest("Where is it?", "Oslo"),
    ]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "holds no facts"),
        ("prompt,target\n", "holds no facts"),
        ("prompt,target\nA is\n", "row 1 has 1 cells, and the first line 2"),
        ("prompt,target\nA is,B,C\n", "row 1 has 3 cells"),
        ("prompt,target,targets\nA is,B,C\n", "Row 1 of .*unknown field 'targets'"),
        ("prompt;target\nA is;B\n", "separated by commas"),
        ("prompt,target\nA is,\n", "Row 1 of .* has no target"),
        ('prompt,target\nA is,"B\n', "it is not CSV"),
        ("prompt,target,space\nA is,B,no\n", "space must be true or false"),
    ],
)
def test_the_error_names_the_invalid_row(tmp_path: Path, table: str, said: str) -> None:
    (tmp_path / "facts.csv").write_text(table)
    with pytest.raises(ConfigError, match=said):
        read_requests(tmp_path / "facts.csv")


def test_a_fact_has_consequences_which_are_facts(tmp_path: Path) -> None:
    fact = {"prompt": "A is", "target": "B", "consequences": [{"prompt": "B is", "target": "A", "rephrasings": ["b"]}]}
    (tmp_path / "facts.jsonl").write_text(json.dumps(fact))
    implied = EditRequest("B is", "A", rephrasings=("b",))
    assert read_requests(tmp_path / "facts.jsonl") == [EditRequest("A is", "B", consequences=(implied,))]


@pytest.mark.parametrize(
    ("consequences", "said"),
    [
        ("B is => A", "Line 1 of .*: consequences must be a list"),
        ([{"prompt": "B is"}], "Consequence 1 of line 1 of .* has no target"),
        (["B is => A"], "Consequence 1 of line 1 of .* is not an object"),
    ],
)
def test_consequences_that_are_no_facts_are_refused(tmp_path: Path, consequences: Any, said: str) -> None:
    (tmp_path / "facts.jsonl").write_text(json.dumps({"prompt": "A is", "target": "B", "consequences": consequences}))
    with pytest.raises(ConfigError, match=said):
        read_requests(tmp_path / "facts.jsonl")
