"""Accuracy against forgetting, each method at many learning rates: SST-2 as text with the demo model.

    python -m benchmarks.forgetting_curve --data-dir DATA [--methods lora rose] [--rates 5e-4 1e-3 2e-3 4e-3]
    python -m benchmarks.forgetting_curve --report [--draw]

A single learning rate compares methods at different distances from the base model, so here each method is a curve over
its rates. The task, the budget and what is measured are those of `benchmarks/finetuning.py`: 60 steps of 8 examples,
the first 200 examples of the official development set, and the rise of the loss on 24 reference answers of AlpacaEval.
No rate is chosen, so nothing is tuned. A run is a line of benchmarks/results/forgetting_curve.jsonl, and runs that are
there are not made again. --report prints the table; with --draw it also draws docs/pictures/forgetting_curve.png.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.finetuning import METHODS, accuracies, read_sst2, read_texts, run
from roselora.bench.metrics.estimates import bootstrap_interval
from roselora.bench.metrics.perplexity import text_losses
from roselora.models.loading import load
from roselora.training.plotting import LOOKS, explain, headline, new_figure, plain, png, with_grid

RESULTS = Path(__file__).parent / "results" / "forgetting_curve.jsonl"
PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "forgetting_curve.png"
STEPS, QUESTIONS, TEXTS = 60, 200, 24
NAMES = {"rose": "RoseLoRA", "lora": "LoRA", "shira": "SHiRA", "dora": "DoRA"}


def made() -> list[dict[str, Any]]:
    """The runs that are there, the base's line first."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def add(line: dict[str, Any]) -> None:
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print({name: value for name, value in line.items() if name not in ("right", "losses")}, flush=True)


def measure(methods: Sequence[str], rates: Sequence[float], seeds: Sequence[int], data_dir: Path) -> None:
    """Make the runs that are missing."""
    folder = data_dir / "glue" / "SST-2"
    testing = read_sst2(folder / "dev.tsv")[:QUESTIONS]
    texts = read_texts(data_dir, TEXTS)

    def scored(model: Any, tokenizer: Any) -> dict[str, Any]:
        right = accuracies(model, tokenizer, testing)
        return {
            "right": "".join("01"[each] for each in right),
            "losses": [round(loss, 4) for loss in text_losses(model, tokenizer, texts)],
            "accuracy": round(float(np.mean(right)), 4),
        }

    if not made():
        base = load("demo")
        add({"method": "base", **scored(base.model, base.tokenizer)})
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "train.jsonl"
        data.write_text("".join(json.dumps(example) + "\n" for example in read_sst2(folder / "train.tsv")[:-100]))
        for seed in seeds:
            for rate in rates:
                for method in methods:
                    key = {"method": method, "rate": rate, "seed": seed}
                    if any(key.items() <= line.items() for line in made()):
                        continue
                    outcome, cost = run(method, rate, seed, STEPS, data)
                    prepared = outcome.prepared
                    add({**key, "seconds": round(cost.seconds, 1), **scored(prepared.model, prepared.tokenizer)})


def report(*, draw: bool) -> None:
    """Print the table; draw each method's curve beside LoRA's, once there are both."""
    base, *runs = made()
    points: dict[str, dict[float, tuple[float, float]]] = {}
    print("| method | rate | seeds | accuracy [95%] | forgetting, nats a token [95%] |\n|---|---|---|---|---|")
    for method, rate in sorted({(line["method"], line["rate"]) for line in runs}):
        own = [line for line in runs if (line["method"], line["rate"]) == (method, rate)]
        right = np.mean([[int(each) for each in line["right"]] for line in own], axis=0).tolist()
        forgot = (np.mean([line["losses"] for line in own], axis=0) - np.array(base["losses"])).tolist()
        accuracy, forgetting = float(np.mean(right)), float(np.mean(forgot))
        intervals = ["[{:.3f}, {:.3f}]".format(*bootstrap_interval(each)) for each in (right, forgot)]
        print(
            f"| {NAMES.get(method, method)} | {rate:g} | {len(own)} | {accuracy:.3f} {intervals[0]} "
            f"| {forgetting:.3f} {intervals[1]} |"
        )
        points.setdefault(method, {})[rate] = (forgetting, accuracy)
    others = [method for method in points if method != "lora"]
    if not draw or not others or "lora" not in points:
        return
    figure = new_figure(2.0 + 2.4 * len(others))
    panels = figure.subplots(len(others), sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, method in zip(panels, others, strict=True):
        for look, name in zip(LOOKS, (method, "lora"), strict=True):
            curve = [points[name][rate] for rate in sorted(points.get(name, {}))]
            axes.plot(*zip(*curve, strict=True), label=NAMES.get(name, name), **look)
            for rate, place in points[name].items():
                aside = (4, -13) if name == "lora" else (-4, 5)
                side = "left" if name == "lora" else "right"
                written = f"{rate:.0e}".replace("e-0", "e-")
                axes.annotate(written, place, aside, textcoords="offset points", horizontalalignment=side)
        with_grid(axes).set_xscale("symlog", linthresh=0.01)
        axes.xaxis.set_major_formatter(plain)
        axes.set_ylabel("accuracy")
        axes.legend(loc="lower right", frameon=False)
    panels[-1].set_xlabel("forgetting, nats a token")
    headline(figure, "Accuracy against forgetting", "SST-2 as text, demo model; the upper left is best")
    explain(figure, "Numbers beside the marks: learning rates. The forgetting axis is linear below 0.01.")
    PICTURE.write_bytes(png(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--methods", nargs="+", default=["lora", "rose"], choices=METHODS)
    parser.add_argument("--rates", nargs="+", type=float, default=[5e-4, 1e-3, 2e-3, 4e-3])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--draw", action="store_true")
    given = parser.parse_args()
    if given.report and not made():
        parser.error("there are no runs to report.")
    if given.report:
        report(draw=given.draw)
    elif given.data_dir is None:
        parser.error("--data-dir is needed, unless there is --report.")
    else:
        measure(given.methods, given.rates, given.seeds, given.data_dir)


if __name__ == "__main__":
    main()
