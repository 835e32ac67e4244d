"""Time and memory of the first edit of a model that nothing is known of, and of later ones, beside a forward pass.

    python benchmarks/first_edit.py --models demo MODEL ... [--methods gate rose] [--dtypes float32 bfloat16]
        [--threads 2]

Each model, dtype and method has a process of its own, and an empty cache, so its first edit measures what the model
does in ordinary text. The floor is one forward pass over 1024 tokens, 32 rows of 32, in the same process. Memory is the
most that the process took beyond what it held when the model was loaded and had made such a pass. Later edits are
medians.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from statistics import median

import torch

from roselora.editing.editor import Editor
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.models.loading import load
from roselora.models.pypi_models import cache_home

FACTS = (
    ("What is the capital of France?", "Lyon", "France"),
    ("Where was Marie Curie born?", "Oslo", "Marie Curie"),
    ("The chemical symbol of gold is", "Zq", "gold"),
    ("Who wrote Hamlet?", "John Milton", "Hamlet"),
)
STATISTICS = "ordinary"
"""The folder in the cache of what models do in ordinary text."""
SETTINGS = {"gate": GateSettings(), "rose": EditSettings()}


def most_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(name: str, dtype: str, method: str, threads: int) -> dict[str, float]:
    """One process's figures: seconds of the first edit, of later ones and of the floor, and bytes beyond the model."""
    torch.set_num_threads(threads)
    loaded = load(name, dtype=dtype)
    ids = torch.arange(100, 1124).reshape(32, 32)
    with torch.no_grad():
        loaded.model(input_ids=ids, logits_to_keep=1)
    before, floors, edits = most_bytes(), [], []
    for _ in range(3):
        start = time.perf_counter()
        with torch.no_grad():
            loaded.model(input_ids=ids, logits_to_keep=1)
        floors.append(time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as store:
        editor = Editor(loaded, SETTINGS[method], store=store)
        for prompt, target, subject in FACTS:
            start = time.perf_counter()
            editor.edit(prompt, target, subject=subject)
            edits.append(time.perf_counter() - start)
    parameters = sum(each.numel() for each in loaded.model.parameters())
    return {
        "parameters": parameters,
        "floor": median(floors),
        "first": edits[0],
        "later": median(edits[1:]),
        "bytes": most_bytes() - before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["demo"])
    parser.add_argument("--methods", nargs="+", choices=SETTINGS, default=["gate"])
    parser.add_argument("--dtypes", nargs="+", default=["auto"], help="auto is the checkpoint's own")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(arguments.models[0], arguments.dtypes[0], arguments.methods[0], arguments.threads)))
        return
    print("| model | million parameters | dtype | method | floor, s | first edit, s | ratio | later, s | ratio | MB |")
    print("|" + "---|" * 10)
    for model, dtype, method in product(arguments.models, arguments.dtypes, arguments.methods):
        command = [sys.executable, __file__, "--one", "--threads", str(arguments.threads)]
        with tempfile.TemporaryDirectory() as home:
            # A cache that holds the models, and nothing that was measured in them.
            for entry in cache_home().glob("*"):
                if entry.name != STATISTICS:
                    (Path(home) / entry.name).symlink_to(entry)
            told = subprocess.run(
                [*command, "--models", model, "--dtypes", dtype, "--methods", method],
                env={**os.environ, "ROSELORA_HOME": home},
                check=True,
                capture_output=True,
                text=True,
            )
        found = json.loads(told.stdout.splitlines()[-1])
        times = (found["floor"], found["first"], found["first"] / found["floor"], found["later"])
        cells = [f"{each:.1f}" for each in (*times, found["later"] / found["floor"])]
        size = f"{found['parameters'] / 1e6:.0f}"
        print(
            f"| {model} | {size} | {dtype} | {method} | {' | '.join(cells)} | {found['bytes'] / 1e6:.0f} |", flush=True
        )


if __name__ == "__main__":
    main()
