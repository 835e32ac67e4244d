import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roselora.errors import ConfigError
from roselora.training.data import causal_examples, example_count, labels_of, read_examples, recognise
from roselora.training.settings import DataSettings

Write = Callable[..., Path]


def read(path: Path, **settings: Any) -> Any:
    return read_examples(str(path), DataSettings(train=str(path), **settings))


def shaped(path: Path, chat: bool = False, **settings: Any) -> list[dict[str, Any]]:
    records = read(path, **settings)
    shape = recognise(records.column_names, settings.get("shape", "auto"), str(path))
    return list(causal_examples(records, shape, chat=chat, source=str(path)))


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
    assert list(read(lines)) == list(read(array)) == list(read(table)) == records


def test_an_instruction_becomes_alpacas_text_without_and_with_input(write: Write) -> None:
    plain, with_input = shaped(
        write(
            [
                {"instruction": "Add.", "input": "", "output": "3"},
                {"instruction": "Add.", "input": "1 2", "output": "3"},
            ]
        )
    )
    assert plain == {
        "prompt": "Below is an instruction that describes a task. Write a response that appropriately completes the "
        "request.\n\n### Instruction:\nAdd.\n\n### Response:\n",
        "completion": "3",
    }
    assert with_input["prompt"] == (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n"
        "### Response:\n"
    )


def test_an_instruction_becomes_messages_for_a_chat_template(write: Write) -> None:
    (example,) = shaped(write([{"instruction": "Add.", "input": "1 2", "output": "3"}]), chat=True)
    assert example["prompt"] == [{"role": "user", "content": "Add.\n\n1 2"}]
    assert example["completion"] == [{"role": "assistant", "content": "3"}]


def test_a_conversation_gives_one_example_for_each_turn_of_the_assistant(write: Write) -> None:
    roles = ("system", "user", "assistant", "user", "assistant")
    messages = [{"role": role, "content": f"{role} {number}"} for number, role in enumerate(roles)]
    first, second = shaped(write([{"messages": messages}]))
    assert (first["prompt"], first["completion"]) == (messages[:2], [messages[2]])
    assert (second["prompt"], second["completion"]) == (messages[:4], [messages[4]])


def test_columns_can_have_other_names(write: Write) -> None:
    path = write([{"question": "q", "reply": "r", "prompt": "unused"}])
    assert shaped(path, columns={"prompt": "question", "completion": "reply"}) == [{"prompt": "q", "completion": "r"}]


@pytest.mark.parametrize(
    ("columns", "shape"),
    [
        (["messages"], "chat"),
        (["instruction", "output", "input"], "instruction"),
        (["text", "label"], "classification"),
        (["text"], "completion"),
        (["prompt", "completion"], "completion"),
    ],
)
def test_the_shape_is_recognised_by_the_columns(columns: list[str], shape: str) -> None:
    assert recognise(columns, "auto", "data") == shape


def test_columns_that_fit_no_shape_are_named_with_those_that_would() -> None:
    with pytest.raises(ConfigError, match=r"has the columns a, b, and needs others .*prompt \+ completion or text"):
        recognise(["b", "a"], "auto", "data.jsonl")
    with pytest.raises(ConfigError, match=r"needs others \(chat: messages\)"):
        recognise(["text"], "chat", "data.jsonl")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"prompt": "a", "completion": ""},
            r"Record 2 .* is no completion example \(its completion is '', not text\)",
        ),
        ({"prompt": 3, "completion": "b"}, "Record 2|cannot be read"),
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
        (["hello", "you"], "Record 1 of"),
        ([{"from": "user", "value": "hello"}, {"from": "assistant", "value": "you"}], "Record 1 of"),
    ],
)
def test_what_is_no_conversation_is_refused(write: Write, messages: list[Any], message: str) -> None:
    path = write([{"messages": messages}])
    assert example_count(read(path), "chat") == 0
    with pytest.raises(ConfigError, match=message):
        shaped(path)


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


def test_labels_may_be_names_or_numbers(write: Write) -> None:
    names = read(write([{"text": "a", "label": "no"}, {"text": "b", "label": "yes"}]))
    numbers = read(write([{"text": "a", "label": 2}, {"text": "b", "label": 0}], "numbers.jsonl"))
    assert labels_of(names, "data") == ["no", "yes"]
    assert labels_of(numbers, "data") == ["0", "1", "2"]
    with pytest.raises(ConfigError, match="fewer than two labels"):
        labels_of(read(write([{"text": "a", "label": "no"}], "one.jsonl")), "data")


def test_only_the_first_examples_are_used_if_asked(write: Write) -> None:
    assert len(read(write([{"text": "a"}, {"text": "b"}, {"text": "c"}]), max_examples=2)) == 2
