"""The editing benchmarks by name: where the file of each is, and its records as cases; and files of one's own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from roselora.bench.tasks.counterfact import CounterFactRecord
from roselora.bench.tasks.data_files import HubFile, Source, read_source
from roselora.bench.tasks.edit_case import CaseRecord, EditCase, Probe
from roselora.bench.tasks.knowedit import KnowEditRecord, WikiBioRecord
from roselora.bench.tasks.own_facts import ENDINGS, own_cases
from roselora.bench.tasks.zsre import ZsreRecord
from roselora.editing.answer_match import normalize
from roselora.errors import ConfigError
from roselora.files import sha256_file, user_path

FOLDER = "knowledge_editing"
"""Where the files are below a data folder."""


def _source(file: str, record: type[CaseRecord], hub_path: str | None = None) -> Source[CaseRecord]:
    """A file, and where KnowEdit's hub repository has it. A file obtained elsewhere may differ: its hash shows it."""
    hub = None
    if hub_path is not None:
        hub = HubFile("zjunlp/KnowEdit", f"benchmark/{hub_path}", "6d218881e60c7c8be836bd2befd598eb3b318be4")
    return Source(FOLDER, file, record.model_validate, hub)


DATASETS = {
    "wikidata_recent": _source("wikidata_recent_test.json", KnowEditRecord, "wiki_recent/recent_test.json"),
    "wikidata_counterfact": _source("wikidata_counterfact_test.json", KnowEditRecord, "wiki_counterfact/test_cf.json"),
    "zsre": _source("zsre_test.json", KnowEditRecord, "ZsRE/ZsRE-test-all.json"),
    "wikibio": _source("wikibio_test.json", WikiBioRecord, "WikiBio/wikibio-test-all.json"),
    "wikidata_recent_train": _source("recent_train.json", KnowEditRecord, "wiki_recent/recent_train.json"),
    "wikidata_counterfact_train": _source("train_cf.json", KnowEditRecord, "wiki_counterfact/train_cf.json"),
    "wikibio_train": _source("wikibio-train-all.json", WikiBioRecord, "WikiBio/wikibio-train-all.json"),
    "zsre_mend": _source("zsre_mend_edit.json", ZsreRecord),
    "zsre_stream": _source("locft_zsre_3k.json", ZsreRecord),
    "counterfact_stream": _source("locft_counterfact_3k.json", CounterFactRecord),
}
"""The test sets, then the sets that methods are tuned on, then MEND's set and the lifelong streams."""


@dataclass(frozen=True)
class CaseFile:
    """The cases of a benchmark file.

    Attributes:
        cases: in the file's order.
        file: the file's name.
        sha256: of the file's bytes.
        left_out: why records were left out, by their keys: their prompt or target is empty, or the target has several
            lines.
    """

    cases: tuple[EditCase, ...]
    file: str
    sha256: str
    left_out: Mapping[str, str]


def read_cases(name: str, data_dir: Path | None) -> CaseFile:
    """A benchmark's cases, from ``data_dir`` if it is given, else from the hub; their keys are ``name/number``, from 0.

    A name that ends as a file of facts does is such a file, see `own_cases`.

    >>> import json
    >>> folder = Path("data", "knowledge_editing")
    >>> folder.mkdir(parents=True)
    >>> record = {"text": "Ada Plum grew up", "labels": "in Oslo.", "concept": "Ada Plum", "locality": {}}
    >>> _ = (folder / "wikibio_test.json").write_text(json.dumps([record]))
    >>> read_cases("wikibio", Path("data")).cases[0].request.target
    'in Oslo.'

    Raises:
        ConfigError: there is no such benchmark; its file is missing or of another format; the hub does not have it or
            cannot be reached.
    """
    if (file := user_path(name)).suffix.lower() in ENDINGS:
        return CaseFile(tuple(map(_scorable, own_cases(file, name))), file.name, sha256_file(file), {})
    if name not in DATASETS:
        raise ConfigError(
            f"There is no benchmark {name!r}: name one of {', '.join(DATASETS)}, or a file of facts that ends in "
            f"{', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}."
        )
    read = read_source(DATASETS[name], data_dir)
    cases: list[EditCase] = []
    left_out: dict[str, str] = {}
    for number, record in enumerate(read.records):
        case = record.case(f"{name}/{number}")
        try:
            _ = case.request
        except ConfigError as error:
            left_out[case.key] = str(error)
            continue
        cases.append(_scorable(case))
    return CaseFile(tuple(cases), PurePath(read.name).name, read.sha256, left_out)


def _scorable(case: EditCase) -> EditCase:
    """The case without the questions that nothing could score, and without sub-types that are then empty.

    A locality question needs no answer: it is compared with what the base model says. A question that is the edit's
    own prompt, apart from case and outer punctuation, is neither a rephrasing nor another question.
    """
    own = normalize(case.prompt)

    def is_another(prompt: str) -> bool:
        return bool(prompt) and normalize(prompt) != own

    def usable(groups: Mapping[str, tuple[Probe, ...]], needs_answer: bool) -> dict[str, tuple[Probe, ...]]:
        found = {}
        for subtype, probes in groups.items():
            good = tuple(p for p in probes if is_another(p.prompt) and (p.answers or not needs_answer))
            if good:
                found[subtype] = good
        return found

    return replace(
        case,
        rephrasings=tuple(filter(is_another, case.rephrasings)),
        portability=usable(case.portability, needs_answer=True),
        locality=usable(case.locality, needs_answer=False),
    )
