"""What a benchmark's full training asks of a device, computed from its records, a preset and a model's shape.

    python benchmarks/hardware_needs.py --data-dir DATA

Compute counts 4 operations a parameter and token: forward, and backward through activations alone, since the base is
frozen. Memory counts the base in bfloat16, 16 bytes a trained parameter (fp32 value, gradient, Adam's two moments),
checkpointed activations, one block's own (34 bytes a token and channel) and the logits (10 bytes each); LoReFT trains
less than is counted here. Generation of the answers is not in it. Tokens are the demo model's.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from roselora.bench.tasks.tuning_benchmarks import BENCHMARKS
from roselora.models.loading import load
from roselora.training.config_file import read_settings

UTILISATION = 0.4
DEVICE = "A100, 312 TFLOP/s in bfloat16"
PEAK = 312e12


@dataclass(frozen=True)
class Shape:
    """A decoder: parameters, blocks, width, vocabulary, and LoRA's parameters at rank 1 on q, k, v, up and down."""

    name: str
    parameters: float
    blocks: int
    width: int
    vocabulary: int
    each_rank: float


MODELS = (
    Shape("Llama 7B", 6.74e9, 32, 4096, 32000, 32 * (3 * 2 * 4096 + 2 * (4096 + 11008))),
    Shape("SmolLM2 135M", 0.135e9, 30, 576, 49152, 30 * (2 * 576 + 2 * (576 + 192) + 2 * (576 + 1536))),
)
RUNS = (
    ("commonsense", "llm-adapters", "llm-adapters-lora"),
    ("arithmetic", "llm-adapters", "llm-adapters-lora"),
    ("commonsense", "loreft", "loreft-commonsense"),
    ("arithmetic", "loreft", "loreft-arithmetic"),
    ("instruct", "loreft", "loreft-instruct"),
)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    data_dir = parser.parse_args().data_dir
    tokenizer = load("demo").tokenizer
    print(f"| training | preset | records | tokens | model | hours on one {DEVICE}, {UTILISATION:.0%} used | GiB |")
    print("|---|---|---|---|---|---|---|")
    for benchmark, protocol, preset in RUNS:
        settings = read_settings(None, (), {"model": "demo", "data.train": "-"}, preset)
        training = settings.training
        rows = BENCHMARKS[benchmark].training_examples(protocol, data_dir).records
        texts = [row["prompt"] + row["completion"] for row in rows]
        lengths = [min(len(ids), training.max_length) for ids in tokenizer(texts).input_ids]
        tokens = sum(lengths) * training.epochs
        longest = max(lengths) * training.batch_size
        for model in MODELS:
            hours = 4 * model.parameters * tokens / (UTILISATION * PEAK) / 3600
            trained = settings.adapter.rank * model.each_rank
            activations = longest * (2 * model.blocks * model.width + 34 * model.width + 10 * model.vocabulary)
            gibibytes = (2 * model.parameters + 16 * trained + activations) / 2**30
            cells = (
                benchmark,
                preset,
                f"{len(rows):,}",
                f"{tokens / 1e6:.1f} M",
                model.name,
                f"{hours:.2f}",
                f"{gibibytes:.1f}",
            )
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
