from pathlib import Path
from typing import Any

import pytest
from pyarrow import Table, parquet

from roselora.bench.tasks import glue, hub_files
from roselora.bench.tasks.glue_data import SETS
from roselora.bench.tasks.glue_hub import HUB_SETS, REVISION, hub_rows
from roselora.errors import ConfigError

ROWS: dict[str, list[dict[str, Any]]] = {
    "cola": [{"sentence": "He sleeps.", "label": 1, "idx": 0}],
    "mnli": [{"premise": "It rains.", "hypothesis": "It is dry.", "label": 2, "idx": 0}],
    "qnli": [{"question": "Who?", "sentence": "Ada did.", "label": 0, "idx": 0}],
    "stsb": [{"sentence1": "A cat.", "sentence2": "A dog.", "label": 1.25, "idx": 0}],
}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the hub is asked for: it has the rows above, whichever part is asked."""
    files: list[tuple[str, str]] = []

    def download(repository: str, path: str, *, repo_type: str, revision: str) -> str:
        assert (repository, repo_type) == ("nyu-mll/glue", "dataset")
        files.append((path, revision))
        target = tmp_path / path.replace("/", "-")
        parquet.write_table(Table.from_pylist(ROWS[path.partition("/")[0]]), target)
        return str(target)

    monkeypatch.setattr(hub_files, "hf_hub_download", download)
    return files


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("cola", {"text": "He sleeps.", "label": "acceptable"}),
        ("mnli", {"text": "It rains.", "text_pair": "It is dry.", "label": "contradiction"}),
        ("qnli", {"text": "Who?", "text_pair": "Ada did.", "label": "entailment"}),
        ("stsb", {"text": "A cat.", "text_pair": "A dog.", "label": 1.25}),
    ],
)
def test_rows_from_the_hub_are_those_of_a_folder(name: str, row: dict[str, Any], asked: list[tuple[str, str]]) -> None:
    read = hub_rows(name, "train")
    assert read.records == [row]
    assert asked == [(f"{name}/train-00000-of-00001.parquet", REVISION)]
    assert list(read.sources) == [f"nyu-mll/glue/{name}/train-00000-of-00001.parquet"]


def test_mnli_is_scored_on_the_matched_half(asked: list[tuple[str, str]]) -> None:
    hub_rows("mnli", "dev")
    assert asked[0][0] == "mnli/validation_matched-00000-of-00001.parquet"


def test_both_sources_have_the_same_sets_with_the_same_classes() -> None:
    assert list(HUB_SETS) == list(SETS)
    for name, columns in HUB_SETS.items():
        labels = SETS[name].labels
        assert sorted(columns.classes or ()) == sorted((labels or {}).values())
        assert (columns.text_pair is None) == (SETS[name].text_pair is None)


def test_a_row_without_a_class_is_refused_with_its_number(
    asked: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ROWS, "cola", [{"sentence": "He sleeps.", "label": -1, "idx": 0}])
    with pytest.raises(ConfigError, match=r"Record 0.*its label is -1"):
        hub_rows("cola", "train")


def test_without_network_the_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(hub_files, "hf_hub_download", unreachable)
    with pytest.raises(ConfigError, match=r"GLUE's rte could not be fetched.*holds glue/RTE/train\.tsv"):
        glue.training_rows("rte", None)
