import json
from pathlib import Path

import pytest

from roselora.bench.tasks.edit_case import Probe
from roselora.bench.tasks.edit_datasets import read_cases
from roselora.bench.tasks.own_facts import own_cases
from roselora.errors import ConfigError

FACT = {
    "prompt": "Marmalade Lake is in",
    "target": "Norway",
    "subject": "Marmalade Lake",
    "rephrasings": ["The country of Marmalade Lake is", "marmalade lake is IN"],
    "keep": ["Fig Lake is in"],
    "consequences": [{"prompt": "The capital of its country is", "target": "Oslo", "rephrasings": ["It is run from"]}],
}


def write(path: Path, *facts: object) -> str:
    path.write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    return str(path)


def test_what_an_edit_would_train_is_asked_and_not_given(tmp_path: Path) -> None:
    name = write(tmp_path / "facts.jsonl", {"prompt": "Fig is in", "target": "Chad"}, FACT)
    read = read_cases(name, None)
    assert (read.file, read.left_out, len(read.sha256)) == ("facts.jsonl", {}, 64)
    plain, full = read.cases
    assert [case.key for case in read.cases] == [f"{name}/0", f"{name}/1"]
    assert (plain.rephrasings, plain.portability, plain.locality) == ((), {}, {})
    assert full.rephrasings == ("The country of Marmalade Lake is",)  # the other is the edit's own prompt
    capital = [Probe("The capital of its country is", ("Oslo",)), Probe("It is run from", ("Oslo",))]
    assert full.portability == {"Consequences": tuple(capital)}
    assert full.locality == {"Keep": (Probe("Fig Lake is in", ()),)}
    request = full.request
    assert (request.prompt, request.target, request.subject) == ("Marmalade Lake is in", "Norway", "Marmalade Lake")
    assert (request.rephrasings, request.keep, request.consequences) == ((), (), ())


@pytest.mark.parametrize("change", [{"form": "chat"}, {"space": False}])
def test_what_the_benchmark_decides_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    name = write(tmp_path / "facts.jsonl", FACT | change)
    with pytest.raises(ConfigError, match="space or form"):
        own_cases(Path(name), name)


@pytest.mark.parametrize(
    ("name", "said"), [("facts.jsonl", "facts.jsonl"), ("facts.txt", "a file of facts that ends in .jsonl, .json or")]
)
def test_a_file_that_is_not_there_is_named(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        read_cases(str(tmp_path / name), None)
