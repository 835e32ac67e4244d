"""The same commands as the pages name, made as small as they go."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from tests.documented.parsing import MODULE

PLACEHOLDERS = {
    "DATA": "data",
    "MODEL": "tiny",
    "FILE": "covariance.txt",
    "TEXT": "covariance.txt",
    "corpus.txt": "covariance.txt",
    "DIR": "work",
    "ID": "{id}",
    "5d42": "{id}",
    "URL": "{judge}",
    "http://localhost:8000/v1": "{judge}",
    "JUDGE": "judge",
    "NAMES": "no KL",
    "N": "1",
    "$set": "zsre",
    "$methods": "no-edit,ft-m",
}

OF_EDITS = {"MODEL": "demo", "FILE": "facts.jsonl"}

TRAINED = ["--seeds", "0", "--n", "1", "--examples", "4", "--set", "training.max_steps=3", "--set", "adapter.rank=2"]
SMALL: Mapping[str, Sequence[str]] = {
    "bench edit": ["--model", "tiny", "--n", "1", "--skip", "0"],
    "bench commonsense": ["--model", "tiny", *TRAINED],
    "bench arithmetic": ["--model", "tiny", *TRAINED],
    "bench instruct": ["--model", "tiny", *TRAINED],
    "bench glue": ["--model", "encoder", *TRAINED, "--set", "training.batch_size=4"],
    "bench forgetting": ["--model", "tiny", *TRAINED],
    "bench datasize": ["--model", "tiny", *TRAINED, "--shares", "50,100", "--examples", "8"],
    "adapter_size.py": ["--densities", "0.005"],
    "apply_remove.py": ["--matrices", "1", "--repeats", "1", "--densities", "0.005", "--deltas", "1", "2"],
    "edit_speed.py": ["--requests", "1", "--repeats", "1", "--threads", "1"],
    "extraction_agreement.py": ["--minutes", "0"],
    "finetuning.py": [
        "--methods",
        "rose",
        "--rates",
        "5e-4",
        "--seeds",
        "0",
        "--steps",
        "3",
        "--n",
        "2",
        "--texts",
        "1",
    ],
    "rose_study.py": ["--n", "1", "--variants", "default"],
    "merged_agreement.py": ["--n", "1", "--steps", "3"],
    "growth_study.py": ["--report"],
    "forgetting_curve.py": ["--report"],
    "gate_study.py": ["--parts", "depth", "--n", "1", "--texts", "1"],
    "pruning_step.py": ["--repeats", "1", "--count", "2", "--width", "64"],
    "training_overhead.py": ["--tokens", "64", "--rounds", "2", "--methods", "lora", "rose", "--no-memory"],
    "tune_editing.py": ["--n", "2", "--methods", "ft-m"],
}
"""By verb or script: the options that take the place of what is written, or are added."""

ADDED: Mapping[str, Sequence[str]] = {
    "bench commonsense": ["--sets", "boolq"],
    "bench arithmetic": ["--sets", "mawps"],
    "bench datasize": ["--sets", "mawps"],
    "bench glue": ["--sets", "rte"],
}
"""Likewise, where nothing is written."""

REPEATED = "--set"


def scaled(words: Sequence[str]) -> tuple[str, ...]:
    """A command with its placeholders filled in and its sizes as small as they go."""
    if MODULE in words:
        tail = words.index(MODULE) + 1
        return (*words[:tail], *scaled(("roselora", *words[tail:]))[1:])
    key = " ".join(words[1:3]) if words[0] == "roselora" else PurePosixPath(words[1]).name
    known = PLACEHOLDERS | (OF_EDITS if words[1] == "edit" else {})
    filled = [known.get(word, word) for word in words]
    kept = [re.sub(r"\$set\b", "zsre", word) for word in filled]
    small = [*SMALL.get(key, ()), *(() if "--sets" in words else ADDED.get(key, ()))]
    for option in {word for word in small if word.startswith("--") and word != REPEATED}:
        kept = without(kept, option)
    return (*kept, *small)


def without(words: list[str], option: str) -> list[str]:
    """The words without an option and its values."""
    if option not in words:
        return words
    begin = words.index(option)
    end = next((n for n in range(begin + 1, len(words)) if words[n].startswith("--")), len(words))
    return words[:begin] + words[end:]
