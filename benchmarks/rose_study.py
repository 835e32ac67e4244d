"""Settings of RoseLoRA's edits, each changed by itself, on development records.

    python benchmarks/rose_study.py --data-dir DATA [--n 24] [--variants NAMES] --work DIR [--json FILE]

Every variant changes one setting of the default, as its name says, and edits the same records, each on the unedited
model: of MEND's ZsRE those whose prompt is in no file that results are reported on, and of KnowEdit's WikiData_recent
train file. Locality is measured on the record's own question, on statements and questions about the same subject, and
on the prompt with other names; an edit of RoseLoRA trains on none of them. A run that was interrupted continues.
"""

import argparse
import functools
import json
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from roselora.bench.methods.editing_methods import METHODS
from roselora.bench.metrics.estimates import bootstrap_interval, wilson_interval
from roselora.bench.records.edit_bench_records import EditRecord, read_edit_records
from roselora.bench.records.run_files import appending
from roselora.bench.running.edit_plan import EditPlan
from roselora.bench.running.edit_run import EditingRun, ResultLog
from roselora.bench.tasks.edit_case import EditCase, Probe, deduplicate
from roselora.bench.tasks.edit_datasets import read_cases
from roselora.editing.methods.gate.negatives import negative_prompts
from roselora.models.loading import load

MEASURED_ON = ("zsre", "wikidata_counterfact", "wikidata_recent", "zsre_stream", "counterfact_stream")
PROBES = (("statements", 3), ("questions", 2), ("names", 2))

UPPER = tuple(f"{block}.{name}" for block in range(20, 30) for name in ("self_attn.v_proj", "mlp.down_proj"))
"""Of the demo model's thirty blocks the last ten."""

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "KL weight 0": {"keep_weight": 0.0},
    "density .02": {"density": 0.02},
    "density .1": {"density": 0.1},
    "density .2": {"density": 0.2},
    "rank 4": {"rank": 4, "alpha": 8},
    "rank 16": {"rank": 16, "alpha": 32},
    "alpha 4": {"alpha": 4},
    "alpha 64": {"alpha": 64},
    "clamp .003": {"clamp": 3e-3},
    "clamp .03": {"clamp": 3e-2},
    "q, v": {"target_modules": ("q_proj", "v_proj")},
    "down alone": {"target_modules": ("down_proj",)},
    "upper third": {"target_modules": UPPER},
    "KL weight 20": {"keep_weight": 20.0},
    "learning rate .002": {"learning_rate": 2e-3},
}


def cases(data_dir: Path, n: int, seed: int = 0) -> list[EditCase]:
    """Two thirds of them from MEND's ZsRE, a third from WikiData_recent's train file."""
    chosen: list[EditCase] = []
    for name, count in (("zsre_mend", n - n // 3), ("wikidata_recent_train", n // 3)):
        askable = [case for case in unmeasured(name, data_dir) if negative_prompts(case.request).related]
        chosen += random.Random(seed).sample(askable, count)
    return [replace(case, portability={}, locality=locality_probes(case, seed)) for case in chosen]


def unmeasured(name: str, data_dir: Path) -> list[EditCase]:
    """The records of a set whose prompt is in no file that results are measured on."""
    known = deduplicate(read_cases(name, data_dir).cases).cases
    return [case for case in known if case.prompt not in measured(data_dir)]


@functools.cache
def measured(data_dir: Path) -> frozenset[str]:
    """The prompts of the files that results are measured on."""
    return frozenset(case.prompt for name in MEASURED_ON for case in read_cases(name, data_dir).cases)


def locality_probes(case: EditCase, seed: int) -> dict[str, tuple[Probe, ...]]:
    """The prompts whose answers must not change, by kind."""
    found = negative_prompts(case.request)
    pools = {
        "statements": [prompt for prompt in found.related if not prompt.endswith("?")],
        "questions": [prompt for prompt in found.related if prompt.endswith("?")],
        "names": list(found.renamed),
    }
    drawn = random.Random(f"{seed} {case.key}")
    own = {kind: drawn.sample(pools[kind], min(count, len(pools[kind]))) for kind, count in PROBES}
    return {
        **{kind: probes for kind, probes in case.locality.items() if kind == "Unrelated"},
        **{kind: tuple(Probe(prompt, ("",)) for prompt in prompts) for kind, prompts in own.items() if prompts},
    }


COLUMNS: dict[str, Callable[[EditRecord], float | None]] = {
    "prompt": lambda record: record.scores.reliability if record.scores else 0.0,
    "rephrasing": lambda record: record.scores.generalization if record.scores else None,
    "unrelated": lambda record: record.scores.locality.get("Unrelated") if record.scores else None,
    "statements": lambda record: record.scores.locality.get("statements") if record.scores else None,
    "questions": lambda record: record.scores.locality.get("questions") if record.scores else None,
    "other names": lambda record: record.scores.locality.get("names") if record.scores else None,
    "KL, nats": lambda record: record.scores.kl if record.scores else None,
    "entries": lambda record: float(record.cost.entries) if record.cost and record.cost.entries is not None else None,
    "steps": lambda record: record.cost.steps if record.cost else None,
}


def row(records: Sequence[EditRecord]) -> dict[str, dict[str, float]]:
    """Of each column the mean, its 95% interval and n."""
    found = {}
    for column, value in COLUMNS.items():
        values = [v for v in map(value, records) if v is not None]
        if not values:
            continue
        if set(values) <= {0.0, 1.0}:
            low, high = wilson_interval(round(sum(values)), len(values))
        else:
            low, high = bootstrap_interval(values)
        found[column] = {"mean": mean(values), "low": low, "high": high, "n": len(values)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("ROSELORA_DATA_DIR"))
    parser.add_argument("--model", default="demo")
    parser.add_argument("--n", type=int, default=24)
    parser.add_argument("--variants", default="; ".join(VARIANTS), help="names with semicolons between")
    parser.add_argument("--work", type=Path, required=True, help="folder for the records of single edits")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.data_dir is None:
        parser.error("give --data-dir, or set ROSELORA_DATA_DIR")
    chosen = cases(Path(arguments.data_dir), arguments.n)
    rose, names = METHODS["rose"], [name.strip() for name in arguments.variants.split(";") if name.strip()]
    variants = {name: replace(rose, name=name, config=replace(rose.config, **VARIANTS[name])) for name in names}
    loaded = load(arguments.model)
    arguments.work.mkdir(parents=True, exist_ok=True)
    plan = EditPlan(tuple(chosen), variants, "single", arguments.work)
    known = read_edit_records(arguments.work)
    with appending(arguments.work, EditRecord) as append:

        def write(record: EditRecord) -> None:
            append(record)
            print(f"{record.method} {record.case}: {record.error or 'done'}", file=sys.stderr, flush=True)

        EditingRun(loaded.model, loaded.tokenizer, plan, ResultLog(known, write)).run()

    keys = {case.key for case in chosen}
    records = [record for record in read_edit_records(arguments.work) if record.case in keys]
    table = {name: row([record for record in records if record.method == name]) for name in variants}
    print(f"| variant | n | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for name, columns in table.items():
        cells = [f"{columns[c]['mean']:.3g} [{columns[c]['low']:.2g}, {columns[c]['high']:.2g}]" for c in columns]
        print(f"| {name} | {columns['prompt']['n']} | {' | '.join(cells)} |")
    if arguments.json:
        document = {"model": arguments.model, "cases": [case.key for case in chosen], "variants": table}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
