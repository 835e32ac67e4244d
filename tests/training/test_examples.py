"""Records become prompts and completions, and labels become classes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from roselora.errors import ConfigError
from roselora.training.examples import label_ids, labels_of
from roselora.training.prepare import read_data
from roselora.training.train_settings import DataSettings
from tests.training.reading import read, shaped, table

Write = Callable[..., Path]


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


def test_labels_may_be_names_or_numbers(write: Write) -> None:
    names = read(write([{"text": "a", "label": "no"}, {"text": "b", "label": "yes"}]))
    numbers = read(write([{"text": "a", "label": 2}, {"text": "b", "label": 0}], "numbers.jsonl"))
    assert labels_of(names, "data") == ["no", "yes"]
    assert labels_of(numbers, "data") == ["0", "1", "2"]
    with pytest.raises(ConfigError, match="fewer than two labels"):
        labels_of(read(write([{"text": "a", "label": "no"}], "one.jsonl")), "data")


def test_labels_may_be_yes_and_no(write: Write) -> None:
    records = read(write([{"text": "a", "label": True}, {"text": "b", "label": False}]))
    assert labels_of(records, "data") == ["false", "true"]
    assert label_ids(records, ["false", "true"], "data") == [1, 0]


@pytest.mark.parametrize("labels", [[0, 20_000_000], [-1, 7], [5_000_000_000, 3]])
def test_numbers_that_are_no_ids_are_names_and_cost_no_class_for_each_number_below(
    write: Write, labels: list[int]
) -> None:
    records = read(write([{"text": "a", "label": label} for label in labels]))
    assert labels_of(records, "data") == [str(label) for label in sorted(labels)]


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["001", "002", "010"], ["001", "002", "010"]),
        (["None", "null"], ["None", "null"]),
        (["0", "2"], ["0", "1", "2"]),
        (["4.5", "-1e2", "3"], []),
        (["4.5", "none"], ["4.5", "none"]),
        (["True", "False"], ["False", "True"]),
        (["7" * 19, "3"], ["3", "7" * 19]),
        (["9" * 5000, "-" + "8" * 400], ["-" + "8" * 400, "9" * 5000]),
    ],
)
def test_labels_of_csv_are_numbers_only_if_all_are_written_as_numbers_are(
    tmp_path: Path, cells: list[str], names: list[str]
) -> None:
    path = table(tmp_path, "text,label\n" + "".join(f"a,{cell}\n" for cell in cells))
    assert labels_of(read(path), "data") == names


@pytest.mark.parametrize(
    ("training", "validation", "ids"),
    [
        (["2.50", "none"], ["2.50"], [0]),
        (["01", "10"], ["10"], [1]),
        (["0", "1"], ["1"], [1]),
        (["7" * 19, "3"], ["3"], [0]),
        (["2.5", "3"], ["3"], [3.0]),
    ],
)
def test_validation_labels_of_csv_are_read_as_those_trained_on(
    tmp_path: Path, training: list[str], validation: list[str], ids: list[float]
) -> None:
    paths = {"train": tmp_path / "train.csv", "eval": tmp_path / "eval.csv"}
    for path, cells in zip(paths.values(), (training, validation), strict=True):
        path.write_text("text,label\n" + "".join(f"a,{cell}\n" for cell in cells))
    records = read_data(DataSettings(train=str(paths["train"]), eval=str(paths["eval"])))
    labels = labels_of(records["train"], "train.csv")
    assert label_ids(records["eval"], labels, "eval.csv") == ids
