"""Records come from files and the hub as they stand, validated, and an error names the record."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from roselora.errors import ConfigError
from roselora.training.examples import label_ids, labels_of
from roselora.training.prepare import read_data
from roselora.training.record_reading import read_records
from roselora.training.train_settings import DataSettings
from tests.training.reading import read, shaped, table

Write = Callable[..., Path]


def test_jsonl_json_and_csv_give_the_same_records(write: Write, tmp_path: Path) -> None:
    records = [{"prompt": "a, b", "completion": 'c "d"'}, {"prompt": "e", "completion": "f"}]
    lines = write(records)
    array = tmp_path / "data.json"
    array.write_text(json.dumps(records))
    table = tmp_path / "data.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "completion"])
        writer.writeheader()
        writer.writerows(records)
    assert list(read(lines).rows) == list(read(array).rows) == list(read(table).rows) == records


def test_columns_can_have_other_names(write: Write) -> None:
    path = write([{"question": "q", "reply": "r", "prompt": "unused"}])
    assert shaped(path, columns={"prompt": "question", "completion": "reply"}) == [{"prompt": "q", "completion": "r"}]


def test_columns_that_fit_no_shape_are_named_with_those_that_would(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"has the columns a, b, and needs others .*prompt \+ completion or text"):
        read(write([{"b": "1", "a": "2"}]))
    with pytest.raises(ConfigError, match=r"needs others \(chat: messages\)"):
        read(write([{"text": "a"}]), shape="chat")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"prompt": "a", "completion": ""},
            r"Record 2 .* is no completion example: its completion is '': String should have at least 1 character",
        ),
        ({"prompt": 3, "completion": "b"}, "Record 2 .* its prompt is 3: Input should be a valid string"),
    ],
)
def test_a_bad_record_is_named_by_its_number(write: Write, record: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shaped(write([{"prompt": "a", "completion": "b"}, record]))


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "user", "content": "hello"}], "no turn of the assistant"),
        ([], "no turn of the assistant"),
        ([{"from": "user", "value": "hello"}, {"from": "assistant", "value": "you"}], "Record 1 of"),
    ],
)
def test_what_is_no_conversation_is_refused(write: Write, messages: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(write([{"messages": messages}]))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("data.jsonl", None, "There is no data file"),
        ("data.jsonl", "", "cannot be read|holds no records"),
        ("data.jsonl", "{broken\n", "cannot be read"),
        ("data.pkl", "x", "pickle"),
        ("data.xlsx", "x", "no .jsonl, .json or .csv"),
    ],
)
def test_a_file_that_is_no_data_is_refused(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize(
    "label", ["[1, 2]", '{"a": 1}', "null", "NaN", "Infinity", "1" * 5000, "1" * 20, '""'], ids=range(8)
)
def test_what_is_no_label_is_refused_with_its_record(write: Write, label: str) -> None:
    path = write([])
    path.write_text(f'{{"text": "a", "label": 1}}\n{{"text": "b", "label": {label}}}\n')
    with pytest.raises(ConfigError, match=r"Record 2 of|line 2: it contains a number of too many digits"):
        read(path)


def test_a_number_with_a_fraction_may_be_larger_than_any_whole_number(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("text,label\na,0.5\nb,99999999999999999999\n")
    assert list(read(path).rows["label"]) == [0.5, 1e20]


def test_a_cell_of_csv_is_text_as_it_stands(tmp_path: Path) -> None:
    cells = ["null", "None", "NA", "nan", "4", "007", "1.50", "true", "2024-01-31", " x ", "#N/A"]
    rows = "".join(f"{cell},{cell}\n" for cell in cells)
    assert shaped(table(tmp_path, f"\ufeffprompt,completion\n{rows}")) == [
        {"prompt": cell, "completion": cell} for cell in cells
    ]


def test_a_validation_name_among_numbers_is_refused_with_its_record(tmp_path: Path) -> None:
    train, validation = tmp_path / "train.csv", tmp_path / "eval.csv"
    train.write_text("text,label\na,1.5\n")
    validation.write_text("text,label\na,1.5\nb,none\n")
    with pytest.raises(ConfigError, match=r"Record 2 of .*eval\.csv: its 'label' is 'none'"):
        read_data(DataSettings(train=str(train), eval=str(validation)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,completion\na\n", "record 1 has 1 cells, and the header 2"),
        ("prompt,prompt\na,b\n", "its header names 'prompt' twice"),
        ("text\n", "holds no records"),
        ('text\n"a\n', "it is not CSV"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(table(tmp_path, text))


def test_texts_of_json_are_texts_whatever_they_look_like_and_whatever_separates_their_lines(tmp_path: Path) -> None:
    texts = ["2024-01-31T00:00:00Z", "null", "a\u2028b\x85c"]
    path = tmp_path / "data.jsonl"
    path.write_text("\ufeff" + "".join(json.dumps({"text": text}, ensure_ascii=False) + "\r\n" for text in texts))
    assert read(path).rows["text"] == texts


def test_a_path_is_no_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, text in (("run[1]", "right"), ("run1", "wrong")):
        Path(folder).mkdir()
        for name in ("a*.jsonl", "ab.jsonl"):
            Path(folder, name).write_text(json.dumps({"text": f"{text} {name}"}))
    assert list(read(Path("run[1]/a*.jsonl")).rows["text"]) == ["right a*.jsonl"]
    assert list(read(tmp_path / "run[1]" / "ab.jsonl").rows["text"]) == ["right ab.jsonl"]
    for absent in ("run[12]/ab.jsonl", "run?/ab.jsonl", "**/ab.jsonl", "run[1]/a*", "run*"):
        with pytest.raises(ConfigError, match="There is no data file"):
            read_records(absent, DataSettings(train=absent))
    with pytest.raises(ConfigError, match=r"run\[1\] is a folder"):
        read_records("run[1]", DataSettings(train="run[1]"))


def test_data_in_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "d.jsonl").write_text('{"text": "a"}')
    assert len(read_records("~/d.jsonl", DataSettings(train="~/d.jsonl")).rows) == 1
    with pytest.raises(ConfigError, match="There is no data file"):
        read_records("~no-such-user/d.jsonl", DataSettings(train="d"))


def test_columns_can_be_exchanged(write: Write) -> None:
    path = write([{"prompt": "a", "completion": "b", "text": "c"}])
    assert shaped(path, columns={"prompt": "completion", "completion": "prompt"}) == [
        {"prompt": "b", "completion": "a"}
    ]
    path = write([{"a": "1", "prompt": "2", "completion": "3"}])
    assert shaped(path, columns={"prompt": "a", "completion": "prompt"}) == [{"prompt": "1", "completion": "2"}]
    path = write([{"": "1", "text": "2"}])
    assert shaped(path, columns={"text": ""}) == [{"text": "1"}]
    with pytest.raises(ConfigError, match=r"data\.columns names 'no', but .* has , text"):
        read(path, columns={"text": "no"})


@pytest.mark.parametrize("depth", [900, 20_000])
@pytest.mark.parametrize("name", ["text", "note", "messages"])
def test_nesting_never_reaches_the_library(write: Write, depth: int, name: str) -> None:
    path = write([])
    path.write_text(f'{{"text": "a"}}\n{{"text": "b", "{name}": {"[" * depth}{"]" * depth}}}\n')
    if name == "note" and depth == 900:
        assert list(read(path).rows["text"]) == ["a", "b"]  # nobody looks at it
    else:
        with pytest.raises(ConfigError, match=r"Record [12] of|line 2: it is nested too deeply"):
            read(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('{"text": "caf\u00e9"}'.encode("latin-1"), "is not text in UTF-8"),
        (b'{"text": "\\ud800"}', r"Record 1 .*its text is '\\ud800': .* unable to parse raw data as a unicode string"),
        (b"3\n", "Record 1 of .* is 3, not an object"),
        (b'{"text": "a"}\n{"text": 4}\n', "Record 2 .*its text is 4: Input should be a valid string"),
        (
            b'{"text": "a", "label": 1}\n{"text": "b", "label": "x"}',
            "Record 2 .*'label' is 'x', and that of record 1 is 1",
        ),
        (b'{"text": "a", "label": "\\ud800"}', r"Record 1 .*its label is '\\ud800'"),
        (b'{"instruction": "a", "output": "b", "input": "\\ud800"}', r"Record 1 .*its input is '\\ud800'"),
        (b'{"text": "a", "text_pair": "\\ud800", "label": 1}', r"Record 1 .*its text_pair is '\\ud800'"),
        (b'{"text": "a", "label": 9223372036854775808}', "Record 1 .*its label is 9223372036854775808"),
        (b'{"text": "a", "label": 1%s}' % (b"0" * 400), "Record 1 .*its label is a number of 401 digits"),
        (b'[{"text": "a"},]', "it is not JSON"),
        (b'{"messages": ["hello"]}', r"Record 1 .*its messages.0 is 'hello': it is not an object"),
        (
            b'{"messages": [{"role": "user", "content": [{"type": "text"}]}]}',
            r"messages.0.content is \[.* valid string",
        ),
        (b'{"messages": "hello"}', "its messages is 'hello': Input should be a valid list"),
        (b'{"messages": [' + b"{}," * 1000 + b"{}]}", "at most 1000 items .* not 1001"),
    ],
)
def test_whatever_a_file_holds_its_error_names_the_record(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        read(path)


@pytest.mark.parametrize("name", ["te\0xt", "\ud800"])
def test_a_column_that_no_shape_has_may_have_any_name(write: Write, name: str) -> None:
    path = write([{"text": "a", name: "b"}])
    assert list(read(path).rows) == [{"text": "a"}]
    assert list(read(path, columns={"text": name}).rows) == [{"text": "b"}]


def test_records_that_all_have_other_names_cost_no_table_of_all_names(write: Write) -> None:
    rows = read(write([{f"own {number}": [number], "text": str(number)} for number in range(10_000)])).rows
    assert rows.column_names == ["text"]
    assert rows["text"][-1] == "9999"
    path = write([{f"own {number}": "x"} for number in range(10_000)])
    with pytest.raises(ConfigError, match=r"Record 1 of .* its text is None"):
        read(path, columns={"text": "own 7000"})


def test_an_empty_text_is_no_example_of_a_class(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"Record 2 of .* is no classification example: its text is None"):
        read(write([{"text": "a", "label": "x"}, {"text": None, "label": "y"}]))


def test_only_the_first_examples_are_used_if_asked(write: Write) -> None:
    assert len(read(write([{"text": "a"}, {"text": "b"}, {"text": "c"}]), max_examples=2).rows) == 2


@pytest.fixture
def hub_set(monkeypatch: pytest.MonkeyPatch) -> Callable[[Dataset], None]:
    """Puts a dataset in the place of every one of the hub."""
    return lambda dataset: monkeypatch.setattr(
        "roselora.training.record_reading.load_dataset", lambda source, split: dataset
    )


def test_a_set_of_the_hub_is_validated_and_its_classes_keep_their_names_and_order(
    hub_set: Callable[[Dataset], None],
) -> None:
    features = Features(sentence=Value("string"), label=ClassLabel(names=["up", "down"]), other=Value("int64"))
    hub_set(Dataset.from_dict({"sentence": ["a", "b"], "label": [1, 0], "other": [1, 2]}, features))
    records = read_records("owner/name", DataSettings(train="owner/name", columns={"text": "sentence"}))
    assert list(records.rows) == [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
    labels = labels_of(records, "owner/name")
    assert (labels, label_ids(records, labels, "owner/name")) == (["up", "down"], [1, 0])


def test_a_record_of_the_hub_without_an_answer_is_refused_by_its_number(hub_set: Callable[[Dataset], None]) -> None:
    features = Features(text=Value("string"), label=ClassLabel(names=["up", "down"]))
    hub_set(Dataset.from_dict({"text": ["a", "b"], "label": [1, -1]}, features))
    with pytest.raises(ConfigError, match="Record 2 of owner/name is no classification example: its label is None"):
        read_records("owner/name", DataSettings(train="owner/name"))


@pytest.mark.parametrize("labels", [[1, 2.5], [2.5, 1], [2**60, 0.5]])
def test_whole_numbers_beside_one_with_a_fraction_are_numbers_too(write: Write, labels: list[float]) -> None:
    records = read(write([{"text": "a", "label": label} for label in labels]))
    assert list(records.rows["label"]) == [float(label) for label in labels]
