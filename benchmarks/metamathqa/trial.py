"""Try the entry end to end on a CPU, in a copy of the comparison: the demo model, made-up questions, eight steps.

    python -m benchmarks.metamathqa.trial PEFT/method_comparison/MetaMathQA

What the comparison needs and is not here stands in: an accelerator's memory counters, the hub's data sets, and texts
on which the demo model's loss is as that of a 3B model on Wikipedia, which the comparison checks. All else is its own
code.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import datasets
import torch
from datasets import Dataset, DatasetDict
from peft import PeftModel

from benchmarks.metamathqa.run import DEFAULT, EXPERIMENTS, run
from roselora.adapter.density_check import verify
from roselora.models.demo_model import demo_model_folder

STEPS = 8
TRAINING = {
    "dtype": "float32",
    "max_steps": STEPS,
    "eval_steps": STEPS,
    "generation_kwargs": {"max_length": 128, "max_new_tokens": 24},
}
GUARD = 'if device not in ["cuda", "xpu"]:'
COUNTERS = {
    "memory_allocated": lambda: 0,
    "memory_reserved": lambda: 0,
    "max_memory_reserved": lambda: 0,
    "reset_peak_memory_stats": lambda: None,
    "manual_seed_all": lambda seed: None,
    "empty_cache": lambda: None,
    "get_device_name": lambda *_: "CPU",
}


def questions() -> list[tuple[str, str, str]]:
    """Question, worked answer, and result."""
    return [
        (f"Ann has {a} pens and buys {b} more. How many has she?", f"{a} + {b} = {a + b}.", str(a + b))
        for a in range(2, 8)
        for b in range(3, 9)
    ]


def local_dataset(name: str, *_: Any, **options: Any) -> Dataset | DatasetDict:
    """What `datasets.load_dataset` returns, made up here."""
    if "finewiki" in name:
        sentence = "The lighthouse stands where the northern river meets the sea, and ships keep well away from it. "
        return Dataset.from_dict({"text": [sentence * 4] * 4})
    made = questions()
    if "gsm8k" in name:
        rows = {"question": [q for q, _, _ in made[:4]], "answer": [f"{w}\n#### {r}" for _, w, r in made[:4]]}
        return DatasetDict({"train": Dataset.from_dict(rows), "test": Dataset.from_dict(rows)})
    return DatasetDict(
        {
            "train": Dataset.from_dict(
                {
                    "query": [q for q, _, _ in made],
                    "response": [f"{w}\nThe answer is: {r}" for _, w, r in made],
                    "type": ["made up"] * len(made),
                    "original_question": [q for q, _, _ in made],
                }
            )
        }
    )


class TemporaryDirectory(tempfile.TemporaryDirectory[str]):
    """With Python 3.12's option, which the comparison uses; here the folder is always deleted."""

    def __init__(self, *, delete: bool = True, **options: Any) -> None:
        super().__init__(**options)


def saved(model: PeftModel, folder: str) -> None:
    """Save a trained adapter as the comparison does, and say how sparse it is."""
    print(f"every row and column keeps at most {verify(model).density:.0%} of its entries")
    _save(model, folder)


_save = PeftModel.save_pretrained


def main() -> None:
    """Run it, and print what the comparison wrote."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path, help="method_comparison/MetaMathQA of a checkout of PEFT")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "MetaMathQA")
        shutil.copytree(given.comparison, copy, ignore=shutil.ignore_patterns("*results"))
        for name in ("results", "temporary_results", "cancelled_results"):
            (copy / name).mkdir()
        utils = copy / "utils.py"
        source = utils.read_text()
        assert GUARD in source, "the comparison has changed: it no longer asks for CUDA or XPU in these words"
        utils.write_text(source.replace(GUARD, "if False:"))
        experiments = Path(folder, "rose")
        shutil.copytree(EXPERIMENTS / DEFAULT, experiments / DEFAULT)
        config = experiments / DEFAULT / "roselora_config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"total_steps": STEPS}))
        params = experiments / DEFAULT / "training_params.json"
        here = {"model_id": str(demo_model_folder()), **TRAINING}
        params.write_text(json.dumps(json.loads(params.read_text()) | here))
        with (
            patch("benchmarks.metamathqa.run.EXPERIMENTS", experiments),
            patch.object(datasets, "load_dataset", local_dataset),
            patch.object(tempfile, "TemporaryDirectory", TemporaryDirectory),
            patch.object(PeftModel, "save_pretrained", saved),
            patch.multiple(torch.cpu, create=True, **COUNTERS),
        ):
            result = run(copy, DEFAULT, ["-v"])
        print(result.read_text())


if __name__ == "__main__":
    main()
