"""Whether lm-eval says the same of an adapter that is merged and of one that is not.

    python benchmarks/merged_agreement.py --data-dir DATA

Trains rose and LoRA on the demo model for some steps, and lets lm-eval ask the model with the adapter beside its
weights, and with the adapter merged into them, the same questions of ARC-c, MMLU and TriviaQA; perplexity is measured
likewise. Prints one line of JSON: by method how many questions both answer alike, of how many, and how many the base
answers otherwise than the adapted model, which shows that the adapter does something.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from peft import PeftModel

from roselora.bench.metrics.capability import ability_outcomes
from roselora.bench.running.drawing import drawn
from roselora.bench.tasks.tuning_benchmarks import BENCHMARKS
from roselora.models.loading import load
from roselora.training.config_file import read_settings
from roselora.training.training_run import train

MODEL = "demo"


def main() -> None:
    """Train, ask, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--n", type=int, default=20, help="questions of each task")
    parser.add_argument("--steps", type=int, default=20, help="of training")
    arguments = parser.parse_args()

    loaded = load(MODEL)

    def asked(model: Any) -> dict[str, Any]:
        return dict(ability_outcomes(model, loaded.tokenizer, arguments.data_dir, n=arguments.n, seed=0))

    base = asked(loaded.model)
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        lessons = Path(folder, "lessons.jsonl")
        records = drawn(BENCHMARKS["commonsense"].training_examples("loreft", arguments.data_dir).records, 400, 0)
        lessons.write_text("".join(json.dumps(record) + "\n" for record in records))
        for method in ("rose", "lora"):
            output = Path(folder, method)
            given = {"model": MODEL, "method": method, "data.train": str(lessons), "output": str(output)}
            train(read_settings(None, [f"training.max_steps={arguments.steps}", "training.learning_rate=2e-3"], given))
            adapted: Any = PeftModel.from_pretrained(load(MODEL).model, output / "adapter")
            beside = asked(adapted)
            merged = asked(adapted.merge_and_unload())
            result[method] = {name: _compared(name, beside[name], merged[name], base[name]) for name in base}
    print(json.dumps({"n": arguments.n, "steps": arguments.steps, "seed": 0, **result}))


def _compared(name: str, beside: Any, merged: Any, base: Any) -> dict[str, float]:
    if set(base) <= {0.0, 1.0}:
        return {
            "alike": sum(a == b for a, b in zip(beside, merged, strict=True)),
            "of": len(base),
            "moved from the base": sum(a != b for a, b in zip(beside, base, strict=True)),
        }
    return {
        "largest difference": max(abs(a - b) for a, b in zip(beside, merged, strict=True)),
        "of": len(base),
        "largest move from the base": max(abs(a - b) for a, b in zip(beside, base, strict=True)),
    }


if __name__ == "__main__":
    main()
