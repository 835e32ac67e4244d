"""Single edits on the first records of MEND's ZsRE: RoseLoRA against plain PEFT LoRA under the same early stop.

    python benchmarks/single_edits.py --data-dir DATA [--n 20] [--model demo] [--json benchmarks/results/FILE.json]

Every edit is made on the unedited model, written into its weights, judged there by what the model says, and taken
back. The metrics are: reliability and generalization (exact match after normalization of the greedy answer),
locality (16 greedy tokens unchanged, on the edits' own unrelated questions), and the mean KL divergence of the
next-token distribution from the base's on all n unrelated questions, in nats. A failed edit counts as it is.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from peft import LoraConfig

from roselora.baselines.rose import DEFAULTS, PUBLISHED
from roselora.delta.overlay import Overlay
from roselora.editing.optimize import rose_config, train_factors
from roselora.editing.proposal import to_delta
from roselora.editing.settings import EditSettings
from roselora.evaluation.cases import EditCase
from roselora.evaluation.datasets import read_cases
from roselora.evaluation.intervals import bootstrap_interval, wilson_interval
from roselora.evaluation.metrics import kl_divergence, matches, unmoved
from roselora.evaluation.zsre import UNRELATED
from roselora.models import LoadedModel, load
from roselora.models.fingerprint import fingerprint
from roselora.models.generation import greedy_answers, greedy_tokens, next_token_log_probabilities

LOCALITY_TOKENS = 16
LOCALITY_PROMPTS = 10


@dataclass(frozen=True)
class Method:
    """A row of the table: settings, and whether the factors are pruned."""

    name: str
    settings: EditSettings
    sparse: bool

    def config(self, model: Any) -> LoraConfig:
        rose = rose_config(self.settings, model)
        if self.sparse:
            return rose
        return LoraConfig(
            r=rose.r, lora_alpha=rose.lora_alpha, lora_dropout=rose.lora_dropout, target_modules=rose.target_modules
        )


METHODS = (
    Method("RoseLoRA, our defaults", DEFAULTS, sparse=True),
    Method("LoRA, our learning rate", replace(DEFAULTS, keep_weight=0.0), sparse=False),
    Method("LoRA, a quarter of it", replace(DEFAULTS, keep_weight=0.0, learning_rate=1e-3), sparse=False),
    Method("LoRA, with our KL term", DEFAULTS, sparse=False),
    Method("RoseLoRA, published settings", PUBLISHED, sparse=True),
    Method("LoRA, published settings, no clamp", replace(PUBLISHED, clamp=None), sparse=False),
)


@dataclass(frozen=True)
class Result:
    """One edit, judged."""

    reliable: bool
    general: bool
    unmoved: int
    kl: float
    steps: int
    seconds: float
    entries: int
    answer: str


class Judge:
    """What the unedited model says and predicts on the questions that must not move."""

    def __init__(self, loaded: LoadedModel, cases: Sequence[EditCase]) -> None:
        self.model, self.tokenizer = loaded.model, loaded.tokenizer
        self.overlay = Overlay(loaded.model)
        self.elsewhere = [probe.prompt for case in cases for probe in case.locality[UNRELATED]]
        self.base_tokens = self._tokens()
        self.base = self._predictions()

    def _tokens(self) -> list[list[int]]:
        prompts = self.elsewhere[:LOCALITY_PROMPTS]
        return greedy_tokens(self.model, self.tokenizer, prompts, max_new_tokens=LOCALITY_TOKENS)

    def _predictions(self) -> torch.Tensor:
        return next_token_log_probabilities(self.model, self.tokenizer, self.elsewhere)

    def edit(self, case: EditCase, method: Method) -> Result:
        start = time.perf_counter()
        config = method.config(self.model)
        trained = train_factors(self.model, self.tokenizer, case.request, method.settings, config)
        delta = to_delta(self.model, self.overlay, trained.pairs)
        self.overlay.apply("edit", delta)
        seconds = time.perf_counter() - start
        try:
            questions = [case.prompt, *case.rephrasings]
            answer, rephrased = greedy_answers(self.model, self.tokenizer, questions, max_new_tokens=32)
            return Result(
                reliable=matches(answer, [case.target]),
                general=matches(rephrased, [case.target]),
                unmoved=sum(unmoved(self.base_tokens, self._tokens())),
                kl=float(kl_divergence(self.base, self._predictions()).mean()),
                steps=trained.steps,
                seconds=seconds,
                entries=sum(len(weight.expand()[0]) for weight in delta.weights),
                answer=answer,
            )
        finally:
            self.overlay.remove("edit")


def summary(results: list[Result], prompts: int) -> dict[str, Any]:
    """Rates with Wilson's, means with the bootstrap's 95% interval."""
    n = len(results)

    def rate(successes: int, total: int) -> dict[str, Any]:
        return {"value": successes / total, "interval": wilson_interval(successes, total), "n": total}

    divergences = [result.kl for result in results]
    return {
        "reliability": rate(sum(r.reliable for r in results), n),
        "generalization": rate(sum(r.general for r in results), n),
        "locality": rate(sum(r.unmoved for r in results), n * prompts),
        "kl": {"value": mean(divergences), "interval": bootstrap_interval(divergences), "n": n},
        "steps": mean(r.steps for r in results),
        "seconds": median(r.seconds for r in results),
        "entries": mean(r.entries for r in results),
    }


def show(rows: dict[str, dict[str, Any]]) -> None:
    def cell(value: dict[str, Any], digits: int) -> str:
        low, high = value["interval"]
        return f"{value['value']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    print("| method | reliability | generalization | locality | mean KL, nats | steps | s | entries |")
    print("|---|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        rates = [cell(row[key], 2) for key in ("reliability", "generalization", "locality")]
        figures = f"{row['steps']:.1f} | {row['seconds']:.1f} | {row['entries']:,.0f}"
        print(f"| {name} | {' | '.join(rates)} | {cell(row['kl'], 3)} | {figures} |")
    ours = rows.get(METHODS[0].name)
    for name, row in rows.items():
        if ours is not None and name.startswith("LoRA"):
            print(f"mean KL, ours over {name}: {ours['kl']['value'] / row['kl']['value']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("ROSELORA_DATA_DIR"), required=False)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--n", type=int, default=20)
    parser.add_argument("--methods", type=int, nargs="*", default=range(len(METHODS)), help="rows of METHODS to run")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.data_dir is None:
        parser.error("give --data-dir, or set ROSELORA_DATA_DIR")
    torch.set_num_threads(arguments.threads)

    data = read_cases("zsre_mend", Path(arguments.data_dir))
    cases = data.cases[: arguments.n]
    loaded = load(arguments.model)
    original = fingerprint(loaded.model)
    judge = Judge(loaded, cases)
    rows, records = {}, {}
    for method in (METHODS[index] for index in arguments.methods):
        results = []
        for number, case in enumerate(cases, 1):
            results.append(judge.edit(case, method))
            print(f"{method.name}: {number}/{len(cases)} {results[-1]}", file=sys.stderr)
        rows[method.name] = summary(results, len(judge.base_tokens))
        records[method.name] = {"settings": asdict(method.settings), "edits": [asdict(r) for r in results]}
    show(rows)
    print(f"model {arguments.model}, n = {len(cases)}, weights restored: {fingerprint(loaded.model) == original}")
    if arguments.json:
        document = {
            "command": f"python benchmarks/single_edits.py --n {arguments.n} --model {arguments.model}",
            "model_sha256": original,
            "data": {"file": data.file, "sha256": data.sha256},
            "torch": torch.__version__,
            "threads": arguments.threads,
            "processor": platform.processor() or platform.machine(),
            "summary": rows,
            "methods": records,
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
