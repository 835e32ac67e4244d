import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roselora.bench.records.edit_bench_records import (
    Cost,
    EditHead,
    EditRecord,
    FormScores,
    RunPart,
    Scores,
    TokenAccuracy,
    read_edit_records,
)
from roselora.bench.records.run_files import appending, as_json, read_head, write_head
from roselora.errors import FileFormatError

SCORES = Scores(
    answer="Lyon",
    reliability=1.0,
    generalization=None,
    portability={"Reasoning": 0.5},
    locality={},
    kl=math.inf,
    fluency=None,
    token_accuracy=TokenAccuracy(1.0, None, {}, {}),
)
RECORD = EditRecord("zsre/0", "rose", 0, SCORES, Cost(1.5, 10, 20, 30))
FAILED = EditRecord("zsre/1", "rose", 1, None, None, "No.")
HEAD = EditHead(
    parts=(RunPart("roselora bench edit", ("rose",), {"torch": "2.13"}, {"threads": 1}),),
    model="demo",
    model_sha256="ab",
    dataset="zsre",
    data_file="zsre.json",
    data_sha256="cd",
    mode="single",
    n=2,
    skip=0,
    skipped=("zsre/7",),
    seed=0,
    fluency=False,
    methods={"ft-l": {"norm": math.inf, "layers": [1, 2]}},
    requests_per_call={"ft-l": None, "rose": 1},
)


def same(left: Any, right: Any) -> bool:
    """Equality in which NaN equals NaN."""
    return repr(left) == repr(right)


def write(folder: Path, *records: EditRecord) -> None:
    with appending(folder, EditRecord) as append:
        for record in records:
            append(record)


def test_records_of_gated_edits_by_earlier_versions_are_read_under_todays_name(tmp_path: Path) -> None:
    by_gate = {"methods": {"gate": {"depth": 0.86}}, "requests_per_call": {"gate": None}, "entries": {"gate": 7}}
    head = replace(HEAD, parts=(replace(HEAD.parts[0], methods=("gate",)),), **by_gate, capability={"gate": {}})
    write_head(tmp_path, head)
    write(tmp_path, replace(RECORD, method="gate"))
    for name in ("head.json", "records.jsonl"):
        text = (tmp_path / name).read_text().replace('"gate"', '"rose-neurons"').replace('  "skip": 0,\n', "")
        assert "rose-neurons" in text
        (tmp_path / name).write_text(text)
    assert read_head(tmp_path, EditHead) == head
    assert read_edit_records(tmp_path) == [replace(RECORD, method="gate")]


def test_settings_that_had_no_effect_and_are_gone_are_left_out(tmp_path: Path) -> None:
    earlier = {
        "gate": {"depth": 0.86, "seed": 0},
        "rose": {"rank": 8, "retention": 0.0, "seed": 0},
        "rose-published": {"rank": 8, "retention": 1.0},
        "ft-m": {"seed": 0},
    }
    write_head(tmp_path, replace(HEAD, methods=earlier))
    assert read_head(tmp_path, EditHead).methods == {
        "gate": {"depth": 0.86},
        "rose": {"rank": 8, "seed": 0},
        "rose-published": {"rank": 8, "retention": 1.0},
        "ft-m": {"seed": 0},
    }


def test_a_head_and_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_head(tmp_path, HEAD)
    write(tmp_path, RECORD)
    write(tmp_path, FAILED)
    assert read_head(tmp_path, EditHead) == HEAD
    assert read_edit_records(tmp_path) == [RECORD, FAILED]


numbers = st.floats(allow_nan=True, allow_infinity=True)
shares = st.dictionaries(st.text(), numbers, max_size=2)
records = st.builds(
    EditRecord,
    case=st.text(),
    method=st.text(),
    position=st.integers(0),
    scores=st.builds(
        Scores,
        answer=st.text(),
        reliability=numbers,
        generalization=st.none() | numbers,
        portability=shares,
        locality=shares,
        kl=st.none() | numbers,
        fluency=st.none() | numbers,
        token_accuracy=st.builds(
            TokenAccuracy, numbers, generalization=st.none() | numbers, portability=shares, locality=shares
        ),
    ),
    cost=st.none() | st.builds(Cost, numbers, st.integers(), st.none() | st.integers(), numbers),
    error=st.none(),
)


@settings(max_examples=30, deadline=None)
@given(records)
def test_any_record_makes_the_round_trip_through_strict_json(record: EditRecord) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), record)
        (line,) = (Path(folder) / "records.jsonl").read_text().splitlines()
        json.loads(line, parse_constant=pytest.fail)
        (found,) = read_edit_records(Path(folder))
    assert same(found, record)


def test_a_path_that_is_no_text_is_written_and_read_with_escapes_also_where_an_earlier_version_wrote_it(
    tmp_path: Path,
) -> None:
    head = replace(HEAD, data_file="zsre\udcff.json", methods={"rome": {"text": {"name": "wiki\udcff"}}})
    write_head(tmp_path, head)
    path = tmp_path / "head.json"
    escaped = replace(HEAD, data_file="zsre\\udcff.json", methods={"rome": {"text": {"name": "wiki\\udcff"}}})
    assert read_head(tmp_path, EditHead) == escaped
    path.write_text(path.read_text().replace("\\\\udcff", "\\udcff"))
    assert "\udcff" in json.loads(path.read_text())["data_file"]
    assert read_head(tmp_path, EditHead) == escaped


def test_an_answer_that_reads_infinity_stays_a_text(tmp_path: Path) -> None:
    record = replace(RECORD, scores=replace(SCORES, answer="Infinity"))
    write(tmp_path, record)
    assert read_edit_records(tmp_path) == [record]


def test_a_record_of_chat_alone_is_read_back_and_so_is_one_of_a_version_that_asked_the_bare_form_alone(
    tmp_path: Path,
) -> None:
    chat = FormScores("Lyon", 1.0, None, {}, {"Nearest_Question": 0.0}, None, kl_by={"Nearest_Question": math.inf})
    write(tmp_path, alone := EditRecord("zsre/7", "rose", 0, None, None, chat=chat))
    assert read_edit_records(tmp_path) == [alone]
    scores = {name: value for name, value in as_json(SCORES).items() if name not in ("kl_by", "behind_sentence")}
    (tmp_path / "records.jsonl").write_text(changed(scores=scores, chat=...) + "\n")
    assert read_edit_records(tmp_path) == [RECORD]


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_line_that_a_kill_cut_short_is_ignored_and_removed_before_the_next_append(tmp_path: Path, kept: int) -> None:
    write(tmp_path, RECORD)
    path = tmp_path / "records.jsonl"
    torn = json.dumps(as_json(FAILED)).encode() + b"\n"
    path.write_bytes(path.read_bytes() + torn[:kept])
    assert read_edit_records(tmp_path) == [RECORD]
    write(tmp_path, FAILED)
    assert read_edit_records(tmp_path) == [RECORD, FAILED]


def test_a_run_killed_in_its_first_line_has_no_records(tmp_path: Path) -> None:
    assert read_edit_records(tmp_path) == []
    (tmp_path / "records.jsonl").write_bytes(b'{"case": "zs')
    assert read_edit_records(tmp_path) == []


def changed(**fields: Any) -> str:
    """The line of RECORD with some fields changed, or left out where the value is ``...``."""
    found = as_json(RECORD) | fields
    return json.dumps({name: value for name, value in found.items() if value is not ...})


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "Expecting value"),
        ("[]", "Input should be an object"),
        ('{"case": "a", "case": "b"}', "given twice"),
        (changed(cost=...), "cost: Field required"),
        (changed(colour="red"), "colour: Unexpected"),
        (changed(position="1"), "position: Input should be a valid integer"),
        (changed(position=True), "position: Input should be a valid integer"),
        (changed(position=1.0), "position: Input should be a valid integer"),
        (changed(case=None), "case: Input should be a valid string"),
        (changed(scores=as_json(SCORES) | {"kl": "much"}), "scores.kl: Input should be a valid number"),
        (changed(scores=as_json(SCORES) | {"locality": {"a": []}}), r"scores\.locality\.a: "),
        (changed(scores=as_json(SCORES) | {"kl": math.nan}), "NaN is not JSON"),
        (changed(scores=as_json(SCORES) | {"kl": 10**400}), "scores.kl: Input should be a valid number"),
        (changed(scores=None), "either scores or an error"),
        (changed(error="No."), "either scores or an error"),
        ("[" * 100_000, "recursion"),
        (changed(case="zsre/9"), "repeats rose on zsre/9 of line 1"),
    ],
)
def test_a_line_that_is_not_one_record_is_refused_with_its_number(tmp_path: Path, line: str, why: str) -> None:
    write(tmp_path, EditRecord("zsre/9", "rose", 0, None, None, "No."))
    with open(tmp_path / "records.jsonl", "a") as file:
        file.write(line + "\n")
    with pytest.raises(FileFormatError, match=rf"(?s)^Line 2 of .*{why}"):
        read_edit_records(tmp_path)


def test_a_file_of_another_kind_is_not_appended_to_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"note": 1}\n{"note')
    with pytest.raises(FileFormatError, match="Line 1"):
        write(tmp_path, RECORD)
    assert path.read_bytes() == b'{"note": 1}\n{"note'


def test_a_line_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(FileFormatError, match=r"Line 1 .* UTF-8"):
        read_edit_records(tmp_path)


@pytest.mark.parametrize("fields", [{"mode": "twice"}, {"skipped": "zsre/7"}, {"methods": []}, {"methods": {"a": 1}}])
def test_a_head_with_a_field_of_another_kind_is_refused_by_name(tmp_path: Path, fields: dict[str, Any]) -> None:
    (tmp_path / "head.json").write_text(json.dumps(as_json(HEAD) | fields))
    with pytest.raises(FileFormatError, match=f"head.json is not a valid EditHead .{next(iter(fields))}"):
        read_head(tmp_path, EditHead)


def test_a_value_that_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="object"):
        as_json({"a": object()})
