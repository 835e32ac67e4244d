"""A real task under one budget: SST-2 as text with the demo model, by RoseLoRA and its peers, three seeds each.

    python benchmarks/finetuning.py --data-dir DATA --output benchmarks/results/finetuning.json

Every method has the same training examples, order, steps, batch size, rank, scale and target modules. Its learning
rate is the one of ``--rates`` with the highest accuracy on validation examples from the training file (with seed 0,
whose run is the first of the three); DoRA takes LoRA's, and RoseLoRA with retention takes RoseLoRA's.
Reported on the official development set, which is used for nothing else: the accuracy of the greedy answer, the
entries that training changed, the file's size, and forgetting, which is the rise of the loss on other text (reference
answers of AlpacaEval), in nats per token.
"""

import argparse
import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from roselora.bench.metrics.cost import ResourceUse, measured
from roselora.bench.metrics.estimates import bootstrap_interval
from roselora.bench.metrics.perplexity import perplexity, text_losses
from roselora.editing.answer_match import matches
from roselora.editing.methods.neutral_texts import NEUTRAL_TEXTS
from roselora.models.generation import greedy_answers
from roselora.models.loading import load
from roselora.training.footprint import entries_changed
from roselora.training.train_settings import TrainSettings
from roselora.training.training_run import Finished, train

LABELS = ("negative", "positive")
METHODS = ("rose", "lora", "dora", "adalora", "shira", "retention")
"""The last is rose with retention on neutral texts."""

TUNED_AS = {"dora": "lora", "retention": "rose"}
"""Methods that take another's learning rate, to save time."""


def read_sst2(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [
        {"prompt": f"Review: {row['sentence'].strip()}\nSentiment:", "completion": f" {LABELS[int(row['label'])]}"}
        for row in rows
    ]


def read_texts(data_dir: Path, count: int) -> list[str]:
    """The reference answers of AlpacaEval on which forgetting is measured."""
    references = json.loads((data_dir / "instruct" / "alpaca_eval_text_davinci_003.json").read_text())
    return [record["output"] for record in references if len(record["output"]) > 200][:count]


def accuracies(model: Any, tokenizer: Any, examples: list[dict[str, str]]) -> list[bool]:
    prompts = [example["prompt"] for example in examples]
    answers = greedy_answers(model, tokenizer, prompts, max_new_tokens=4)
    return [matches(answer, [example["completion"]]) for answer, example in zip(answers, examples, strict=True)]


def run(method: str, rate: float, seed: int, steps: int, data: Path) -> tuple[Finished, ResourceUse]:
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.txt"
        prompts.write_text("\n".join(text.replace("\n", " ") for text in NEUTRAL_TEXTS))
        settings = TrainSettings.model_validate(
            {
                "model": "demo",
                "method": "rose" if method == "retention" else method,
                "retention": {"prompts": str(prompts) if method == "retention" else None},
                "output": f"{folder}/out",
                "data": {"train": str(data)},
                "training": {"max_steps": steps, "batch_size": 8, "learning_rate": rate, "seed": seed},
            }
        )
        with measured(torch.device("cpu")) as cost:
            outcome = train(settings)
        assert isinstance(outcome, Finished)
        return outcome, cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-4, 2e-3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--n", type=int, default=200, help="how many of the development set's examples")
    parser.add_argument("--texts", type=int, default=24)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    folder = arguments.data_dir / "glue" / "SST-2"
    training = read_sst2(folder / "train.tsv")
    tuning, training = training[-100:], training[:-100]
    testing = read_sst2(folder / "dev.tsv")[: arguments.n]
    texts = read_texts(arguments.data_dir, arguments.texts)

    base = load("demo")
    base_losses = text_losses(base.model, base.tokenizer, texts)
    base_right = accuracies(base.model, base.tokenizer, testing)
    print(f"base: accuracy {np.mean(base_right):.3f}, perplexity {perplexity(base_losses):.2f}", flush=True)
    results: dict[str, Any] = {
        "command": f"python benchmarks/finetuning.py --data-dir DATA --steps {arguments.steps} --n {arguments.n}",
        "n": len(testing),
        "texts": len(texts),
        "seeds": arguments.seeds,
        "threads": torch.get_num_threads(),
        "base": {"accuracy": float(np.mean(base_right)), "perplexity": perplexity(base_losses)},
        "methods": {},
    }
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "train.jsonl"
        data.write_text("".join(json.dumps(example) + "\n" for example in training))
        for method in arguments.methods:
            tuned = results["methods"].get(TUNED_AS.get(method))
            rates = [tuned["learning_rate"]] if tuned else arguments.rates
            results["methods"][method] = compare(method, data, tuning, testing, texts, base_losses, rates, arguments)
            if arguments.output:
                arguments.output.write_text(json.dumps(results, indent=2) + "\n")


def compare(
    method: str,
    data: Path,
    tuning: list[dict[str, str]],
    testing: list[dict[str, str]],
    texts: list[str],
    base_losses: list[float],
    rates: list[float],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    tuned: dict[float, float] = {}
    first: dict[float, tuple[Finished, ResourceUse]] = {}
    for rate in rates:
        first[rate] = run(method, rate, arguments.seeds[0], arguments.steps, data)
        prepared = first[rate][0].prepared
        tuned[rate] = float(np.mean(accuracies(prepared.model, prepared.tokenizer, tuning)))
        print(f"{method} lr {rate}: accuracy {tuned[rate]:.3f} on {len(tuning)} validation examples", flush=True)
    rate = max(tuned, key=lambda candidate: tuned[candidate])
    right, losses, rows = [], [], []
    for seed in arguments.seeds:
        outcome, cost = first.pop(rate, None) or run(method, rate, seed, arguments.steps, data)
        model, tokenizer = outcome.prepared.model, outcome.prepared.tokenizer
        right.append(accuracies(model, tokenizer, testing))
        losses.append(text_losses(model, tokenizer, texts))
        rows.append(
            {
                "seed": seed,
                "accuracy": float(np.mean(right[-1])),
                "perplexity": perplexity(losses[-1]),
                "entries_changed": entries_changed(outcome.prepared, outcome.settings),
                "trained_parameters": outcome.prepared.trainable,
                "bytes": outcome.artifacts.bytes,
                "seconds": round(cost.seconds, 1),
                "peak_bytes": cost.peak_bytes,
            }
        )
        print(f"{method} seed {seed}: {rows[-1]}", flush=True)
    # The mean over the seeds for each example and each text, so that the intervals are over examples and texts.
    accuracy = np.mean(right, axis=0).tolist()
    forgetting = (np.mean(losses, axis=0) - np.array(base_losses)).tolist()
    summary = {
        "learning_rate": rate,
        "tuning": tuned,
        "accuracy": float(np.mean(accuracy)),
        "accuracy_interval": bootstrap_interval(accuracy),
        "forgetting": float(np.mean(forgetting)),
        "forgetting_interval": bootstrap_interval(forgetting),
        "runs": rows,
    }
    print(f"{method}: { ({k: v for k, v in summary.items() if k != 'runs'}) }", flush=True)
    return summary


if __name__ == "__main__":
    main()
