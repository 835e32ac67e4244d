"""Small files of the shapes that GLUE's have, with our own sentences."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roselora.bench.tasks.glue_data import SETS, glue_rows
from roselora.bench.tasks.glue_split import split_validation
from roselora.errors import ConfigError
from roselora.files import sha256_file

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(name: str, content: str) -> Path:
        path = tmp_path / "glue" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8", newline="")
        return path

    return put


def test_cola_has_no_header_and_quotes_are_letters(write: Write, tmp_path: Path) -> None:
    path = write("CoLA/dev.tsv", 'xx\t1\t\t"No," said Ada.\nxx\t0\t*\tThe "sang bird.\n')
    read = glue_rows("cola", "dev", tmp_path)
    assert read.records == [
        {"text": '"No," said Ada.', "label": "acceptable"},
        {"text": 'The "sang bird.', "label": "unacceptable"},
    ]
    assert read.sources == {"CoLA/dev.tsv": sha256_file(path)}


def test_mrpc_begins_with_a_byte_order_mark_and_may_end_its_lines_as_dos_does(write: Write, tmp_path: Path) -> None:
    write("MRPC/dev.tsv", "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t7\t8\tA cat.\tOne cat.\r\n")
    assert glue_rows("mrpc", "dev", tmp_path).records == [
        {"text": "A cat.", "text_pair": "One cat.", "label": "equivalent"}
    ]


def test_a_line_ends_at_its_newline_alone(write: Write, tmp_path: Path) -> None:
    write("SST-2/train.tsv", "sentence\tlabel\nfine\u2028really \t1\n")
    assert glue_rows("sst2", "train", tmp_path).records == [{"text": "fine\u2028really ", "label": "positive"}]


def test_stsb_is_a_regression(write: Write, tmp_path: Path) -> None:
    head = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
    write("STS-B/dev.tsv", f"{head}0\tg\tf\ty\t1\tnone\tnone\tA dog runs.\tA dog ran.\t4.250\n")
    assert glue_rows("stsb", "dev", tmp_path).records == [
        {"text": "A dog runs.", "text_pair": "A dog ran.", "label": 4.25}
    ]
    write("STS-B/dev.tsv", f"{head}0\tg\tf\ty\t1\tnone\tnone\tA dog runs.\tA dog ran.\tnan\n")
    with pytest.raises(ConfigError, match=r"Record 0 of .*dev.tsv"):
        glue_rows("stsb", "dev", tmp_path)


@pytest.mark.parametrize(
    ("name", "folder", "written", "label"),
    [
        ("qqp", "QQP", "1", "duplicate"),
        ("mnli", "MNLI", "neutral", "neutral"),
        ("qnli", "QNLI", "entailment", "entailment"),
    ],
)
def test_the_subsets_are_json(write: Write, tmp_path: Path, name: str, folder: str, written: str, label: str) -> None:
    record = {"text_a": "Who sings?", "text_b": "Ada sings.", "label": written}
    write(f"{folder}/subset_train.json", json.dumps({"0": record, "1": record}))
    row = {"text": "Who sings?", "text_pair": "Ada sings.", "label": label}
    assert glue_rows(name, "train", tmp_path).records == [row, row]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\n", "record 0 has 3 cells, not 4"),
        ("index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tmaybe\n", "its label is 'maybe'"),
        ("index\tsentence1\tsentence2\tlabel\n0\t \tB.\tentailment\n", "its sentence1 is ' '"),
        ("index\tsentence1\tlabel\n0\tA.\tentailment\n", "Record 0"),
        ("index\tsentence1\tsentence2\tlabel\n", "holds no records"),
        ("", "it is empty"),
    ],
)
def test_what_is_of_another_format_is_one_sentence(write: Write, tmp_path: Path, content: str, says: str) -> None:
    path = write("RTE/dev.tsv", content)
    with pytest.raises(ConfigError, match=says) as error:
        glue_rows("rte", "dev", tmp_path)
    assert str(path) in str(error.value)


def test_unknown_sets_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no set 'wnli'"):
        glue_rows("wnli", "dev", tmp_path)
    for name in SETS:
        with pytest.raises(ConfigError, match="There is no"):
            glue_rows(name, "dev", tmp_path)


def test_half_of_validation_selects_and_of_a_large_one_a_thousand() -> None:
    small: list[Any] = list(range(277))
    selecting, scoring = split_validation(small, 42)
    assert (len(selecting), len(scoring)) == (138, 139)
    assert sorted(selecting + scoring) == small
    assert selecting == sorted(selecting)
    assert split_validation(small, 42) == (selecting, scoring)
    assert split_validation(small, 43) != (selecting, scoring)
    assert [len(part) for part in split_validation(range(5001), 0)] == [1000, 4001]
    assert [len(part) for part in split_validation(range(5000), 0)] == [2500, 2500]
