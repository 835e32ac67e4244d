"""Choose each editing method's settings with one small budget on KnowEdit's train files, never on a test file.

    python benchmarks/tune_editing.py --data-dir DATA --covariance-text TEXT --output FILE

Every method has the same budget: three candidates (its defaults and two others, written below), each tried on the
same cases, half from WikiData_recent's and half from WikiData_counterfact's train file, as single edits that are made
and asked bare and in chat, where the model has a chat template. The winner
has the highest reliability, because an edit that does not hold is none; ties go to the higher mean of portability
(aliases of the subject stand in for rephrasings, which the train files lack) and locality, then to the lower KL
divergence.
`roselora bench edit --settings FILE` takes the output. A repeated command resumes.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from roselora.bench.methods.edit_method import Method
from roselora.bench.methods.editing_methods import METHODS
from roselora.bench.records.edit_bench_records import EditRecord, FormName, read_edit_records
from roselora.bench.records.run_files import appending
from roselora.bench.running.drawing import drawn
from roselora.bench.running.edit_plan import EditPlan
from roselora.bench.running.edit_run import EditingRun, ResultLog
from roselora.bench.running.method_settings import as_plain, configured, with_settings
from roselora.bench.tasks.edit_case import EditCase, deduplicate
from roselora.bench.tasks.edit_datasets import read_cases
from roselora.editing.forms import asked_texts
from roselora.models.loading import load

DATASETS = ("wikidata_recent_train", "wikidata_counterfact_train")

CANDIDATES: dict[str, tuple[Mapping[str, Any], ...]] = {
    "ft-l": (
        {"learning_rate": 5e-3, "norm_bound": 5e-3, "epochs": 50},
        {"learning_rate": 5e-3, "norm_bound": 2e-2, "epochs": 50},
    ),
    "ft-m": ({"learning_rate": 1e-3, "epochs": 50}, {"learning_rate": 2e-3, "epochs": 50}),
    "locft-bf": ({"learning_rate": 1e-3, "epochs": 50}, {"learning_rate": 2e-3, "epochs": 50}),
    "lora": ({"learning_rate": 1e-3}, {"learning_rate": 3e-4}),
    "adalora": ({"learning_rate": 2e-3}, {"learning_rate": 1e-3}),
    "rome": ({"depth": 0.15}, {"clamp": 1.5}),
    "memit": ({"depth": 0.5}, {"clamp": 1.5}),
    "alphaedit": ({"depth": 0.5}, {"threshold": 0.002}),
    "grace": ({"radius": 3.0}, {"radius": 3.0, "depth": 0.6}),
    "rose": ({"learning_rate": 0.05}, {"rank": 8, "density": 0.1}),
}
"""The two that each method tries beside its defaults."""


FORMS: tuple[FormName, ...] = ("bare", "chat")

ORDER = (("reliability", 1), ("reach", 1), ("kl", -1))
"""What decides, and whether more of it is better."""


def cases(data_dir: Path, n: int, seed: int) -> list[EditCase]:
    """Half of the cases from each train file."""
    files = [deduplicate(read_cases(name, data_dir).cases).cases for name in DATASETS]
    return [case for file in files for case in drawn(file, n // len(files), seed)]


def candidates(names: Sequence[str], text: Path | None, seed: int) -> dict[str, Method]:
    """By a name such as "ft-m {'learning_rate': 0.001}"."""
    methods = {}
    for name, method in configured(names, seed=seed, covariance_text=text).items():
        for settings in ({}, *CANDIDATES.get(name, ())):
            methods[f"{name} {json.dumps(settings)}"] = with_settings(name, method, settings)
    return methods


def quality(records: Sequence[EditRecord]) -> dict[str, float]:
    """The means that decide, over all forms; a failed edit counts as 0 in each."""
    asked = [form for form in FORMS if any(record.in_form(form) for record in records)] or FORMS[:1]
    scores = [record.in_form(form) for record in records for form in asked]
    portability = [mean(s.portability.values()) if s else 0.0 for s in scores if s is None or s.portability]
    parts = {
        "reliability": mean(s.reliability if s else 0.0 for s in scores),
        "portability": mean(portability),
        "locality": mean(mean(s.locality.values()) if s else 0.0 for s in scores if s is None or s.locality),
    }
    divergences = [s.kl for s in scores if s and s.kl is not None]
    seconds = [record.cost.seconds for record in records if record.cost]
    return parts | {
        "reach": (parts["portability"] + parts["locality"]) / 2,
        "kl": mean(divergences) if divergences else float("inf"),
        "seconds": mean(seconds) if seconds else float("nan"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("ROSELORA_DATA_DIR"))
    parser.add_argument("--covariance-text", type=Path)
    parser.add_argument("--model", default="demo")
    parser.add_argument(
        "--methods", default=",".join(name for name in METHODS if name not in ("no-edit", "rose-published"))
    )
    parser.add_argument("--n", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("tuning"), help="folder for the records of single edits")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.data_dir is None:
        parser.error("give --data-dir, or set ROSELORA_DATA_DIR")
    names = arguments.methods.split(",")
    chosen = cases(Path(arguments.data_dir), arguments.n, arguments.seed)
    methods = candidates(names, arguments.covariance_text, arguments.seed)
    loaded = load(arguments.model)
    arguments.work.mkdir(parents=True, exist_ok=True)

    forms = FORMS if len(asked_texts(loaded.tokenizer, "Who?", "both")) > 1 else FORMS[:1]
    plan = EditPlan(tuple(chosen), methods, "single", arguments.work, forms=forms)
    known = read_edit_records(arguments.work)
    with appending(arguments.work, EditRecord) as append:

        def write(record: EditRecord) -> None:
            append(record)
            said = record.error or (record.scores.answer if record.scores else "")
            print(f"{record.method} {record.case}: {said!r}", file=sys.stderr, flush=True)

        EditingRun(loaded.model, loaded.tokenizer, plan, ResultLog(known, write)).run()

    records = read_edit_records(arguments.work)
    table = {name: quality([record for record in records if record.method == name]) for name in methods}
    best = {}
    print("| method | settings | reliability | portability | locality | mean KL | s |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        own = [key for key in methods if key.partition(" ")[0] == name]
        winner = max(own, key=lambda key: tuple(table[key][part] * sign for part, sign in ORDER))
        best[name] = json.loads(winner.partition(" ")[2])
        for key in own:
            q = table[key]
            cells = [f"{q[part]:.3f}" for part in ("reliability", "portability", "locality", "kl")]
            mark = " (chosen)" if key == winner else ""
            print(f"| {name} | `{key.partition(' ')[2]}`{mark} | {' | '.join(cells)} | {q['seconds']:.1f} |")
    if arguments.output:
        document = {
            "command": f"python benchmarks/tune_editing.py --n {arguments.n} --seed {arguments.seed}",
            "model": arguments.model,
            "datasets": DATASETS,
            "cases": [case.key for case in chosen],
            "torch": torch.__version__,
            "candidates": table,
            "defaults": {name: as_plain(METHODS[name].config) for name in names},
            "settings": best,
        }
        arguments.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
