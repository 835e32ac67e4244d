"""The benchmarks by name: which file each is, who reads it, and where the hub has it."""

from dataclasses import dataclass
from pathlib import Path

from roselora.bench.tasks import counterfact, knowedit, wikibio, zsre
from roselora.bench.tasks.case_reading import CaseFile, ToCase, read_file
from roselora.bench.tasks.hub_files import HubFile, fetch
from roselora.errors import ConfigError

FOLDER = "knowledge_editing"
"""Where the files lie below a data folder."""

KNOWEDIT = "zjunlp/KnowEdit"
"""The hub's dataset repository of KnowEdit."""

REVISION = "6d218881e60c7c8be836bd2befd598eb3b318be4"
"""Its commit: a fixed one means the same records every time, and no question to the hub once they are cached."""


@dataclass(frozen=True)
class Dataset:
    """One file of edits.

    Attributes:
        file: its name below ``knowledge_editing/`` in a data folder.
        to_case: its reader.
        hub_file: its name in KnowEdit's hub repository, or None if the hub is not known to have it. The hub's version
            may differ from a file of the same benchmark that was got elsewhere: its hash tells.
    """

    file: str
    to_case: ToCase
    hub_file: str | None = None


DATASETS = {
    "wikidata_recent": Dataset("wikidata_recent_test.json", knowedit.to_case, "benchmark/wiki_recent/recent_test.json"),
    "wikidata_counterfact": Dataset(
        "wikidata_counterfact_test.json", knowedit.to_case, "benchmark/wiki_counterfact/test_cf.json"
    ),
    "zsre": Dataset("zsre_test.json", knowedit.to_case, "benchmark/ZsRE/ZsRE-test-all.json"),
    "wikibio": Dataset("wikibio_test.json", wikibio.to_case, "benchmark/WikiBio/wikibio-test-all.json"),
    "wikidata_recent_train": Dataset("recent_train.json", knowedit.to_case, "benchmark/wiki_recent/recent_train.json"),
    "wikidata_counterfact_train": Dataset(
        "train_cf.json", knowedit.to_case, "benchmark/wiki_counterfact/train_cf.json"
    ),
    "wikibio_train": Dataset("wikibio-train-all.json", wikibio.to_case, "benchmark/WikiBio/wikibio-train-all.json"),
    "zsre_mend": Dataset("zsre_mend_edit.json", zsre.to_case),
    "zsre_stream": Dataset("locft_zsre_3k.json", zsre.to_case),
    "counterfact_stream": Dataset("locft_counterfact_3k.json", counterfact.to_case),
}
"""Tests first, then what methods are tuned on, then MEND's set and the lifelong streams."""


def read_cases(name: str, data_dir: Path | None) -> CaseFile:
    """A benchmark's cases: from ``data_dir`` if it is given, else from the hub.

    Raises:
        ConfigError: there is no such benchmark, its file is not there or of another format, or the hub does not have
            it or cannot be reached.
    """
    dataset = DATASETS.get(name)
    if dataset is None:
        raise ConfigError(f"There is no benchmark {name!r}: name one of {', '.join(DATASETS)}.")
    path = _from_hub(name, dataset) if data_dir is None else data_dir / FOLDER / dataset.file
    if not path.is_file():
        raise ConfigError(f"There is no {path}; point --data-dir at the folder with the benchmark data.")
    return read_file(path, name, dataset.to_case)


def _from_hub(name: str, dataset: Dataset) -> Path:
    if dataset.hub_file is None:
        raise ConfigError(
            f"No hub repository is known for {name}: point --data-dir at a folder that holds {FOLDER}/{dataset.file}."
        )
    return fetch(HubFile(KNOWEDIT, dataset.hub_file, REVISION), name, f"{FOLDER}/{dataset.file}")
