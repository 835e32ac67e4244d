"""What a GPU is asked to show, in one table: its tests, what pruning adds to a training step, and how fast edits are.

    python -m benchmarks.gpu [--json FILE]
    python -m benchmarks.gpu --dry-run

The model has the shape of an 8B Llama 3 and random weights in bfloat16, with the demo model's tokenizer; times do not
depend on what a model knows, except that a gated edit may need more steps here than in a trained one. LoRA and RoseLoRA
are two adapters of this one model, on all its linear layers, and take steps in turn. RoseLoRA prunes to its target
density in every step that is counted. Times are medians, the ratio is the median of the ratios of steps that follow one
another, and memory is a step's peak beyond what is allocated before it. --dry-run does the same on a CPU with a model
of two layers, without the tests.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.edit_speed import edit_seconds
from roselora import RoseLoraConfig
from roselora.bench.metrics.cost import measured
from roselora.models.loading import LoadedModel, load

REPOSITORY = Path(__file__).parents[1]
TESTS = (["-m", "cuda", "--ignore", "tests/device", "tests"], ["tests/device"])
LLAMA_3_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
TWO_LAYERS = LLAMA_3_8B | {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 49280,  # more than its tokenizer has, as in the 8B shape
}
TOKENS, ROUNDS = (64, 512), 20


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    value: str
    beside: str = ""


def random_model(shape: dict[str, int], device: torch.device) -> LoadedModel:
    """A Llama of that shape with random weights, and the demo model's tokenizer."""
    tokenizer = load("demo").tokenizer
    config = LlamaConfig(**shape, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            model = LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    return LoadedModel(model, tokenizer, "random")


def overhead(base: Any, rounds: int) -> list[Row]:
    """A training step with RoseLoRA beside the same with LoRA."""
    common: dict[str, Any] = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
    model: Any = get_peft_model(base, LoraConfig(**common), adapter_name="plain").train()
    pruned = RoseLoraConfig(density=0.05, warmup=1, ramp=0, total_steps=10_000, **common)
    model.add_adapter("rose", pruned)
    own = {name: [p for n, p in model.named_parameters() if f".{name}." in n] for name in ("plain", "rose")}
    optimizers = {name: torch.optim.AdamW(parameters, lr=1e-4) for name, parameters in own.items()}

    def step(name: str, ids: torch.Tensor) -> tuple[float, int]:
        model.set_adapter(name)
        with measured(model.device) as use:
            model(input_ids=ids, labels=ids).loss.backward()
            torch.nn.utils.clip_grad_norm_(own[name], 1.0)
            optimizers[name].step()
            optimizers[name].zero_grad()
        return use.seconds, use.peak_bytes

    rows = []
    for tokens in TOKENS:
        seconds: dict[str, list[float]] = {"plain": [], "rose": []}
        peaks: dict[str, int] = {}
        for number in range(rounds + 2):  # the first step allocates, the second is the first that prunes
            ids = torch.randint(10, base.config.vocab_size, (1, tokens), device=model.device)
            for name in ("plain", "rose") if number % 2 else ("rose", "plain"):
                taken, peak = step(name, ids)
                if number > 1:
                    seconds[name].append(taken)
                    peaks[name] = max(peaks.get(name, 0), peak)
        ratio = statistics.median(ours / theirs for ours, theirs in zip(seconds["rose"], seconds["plain"], strict=True))
        lora, rose = (statistics.median(seconds[name]) * 1e3 for name in ("plain", "rose"))
        more = (peaks["rose"] - peaks["plain"]) / 2**20
        beside = f"{rose:.1f} ms beside {lora:.1f} ms, n {rounds}; {more:+.0f} MiB at its peak"
        rows.append(Row(f"training step, {tokens} tokens", f"{ratio:.3f} x LoRA", beside))
    model.unload()
    return rows


def editing(loaded: LoadedModel, count: int) -> list[Row]:
    """Seconds an edit, by us and by the published procedures."""
    seconds, _ = edit_seconds(loaded, ("rose-published", "ft-m", "locft-bf"), count, repeats=1)
    gate = statistics.median(seconds["gate"])
    rows = []
    for name, taken in seconds.items():
        median = statistics.median(taken)
        beside = "" if name == "gate" else f"{median / gate:.1f} x one by gate"
        rows.append(Row(f"an edit, {name}", f"{median:.2f} s", beside))
    return rows


def tested() -> list[Row]:
    """The tests marked for CUDA, and those that run on whatever accelerator is there."""
    rows = []
    for chosen in TESTS:
        command = [sys.executable, "-m", "pytest", "-q", "-rN", *chosen]
        done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            print(done.stdout, file=sys.stderr)
        outcome, summary = "FAILED" if done.returncode else "passed", done.stdout.strip().splitlines()[-1]
        rows.append(Row("pytest " + " ".join(chosen), outcome, summary))
    return rows


def table(rows: Sequence[Row]) -> str:
    """In Markdown."""
    lines = [f"| {row.what} | {row.value} | {row.beside} |" for row in rows]
    return "\n".join(["| | | |", "|---|---|---|", *lines])


def main() -> int:
    """Print the table; 1 if a test failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="on a CPU, with a model of two layers")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    given = parser.parse_args()
    if not given.dry_run and not torch.cuda.is_available():
        print("There is no NVIDIA GPU here; --dry-run tries the same on a CPU with a small model.", file=sys.stderr)
        return 2
    start = time.perf_counter()
    device = torch.device("cpu" if given.dry_run else "cuda")
    rows = [] if given.dry_run else tested()
    loaded = random_model(TWO_LAYERS if given.dry_run else LLAMA_3_8B, device)
    rows += overhead(loaded.model, 2 if given.dry_run else ROUNDS)
    rows += editing(loaded, 1 if given.dry_run else 4)
    where = "a CPU, two layers: a dry run" if given.dry_run else torch.cuda.get_device_name()
    rows.append(Row("all of it", f"{time.perf_counter() - start:.0f} s", f"{where}, torch {torch.__version__}"))
    print(table(rows))
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False) + "\n")
    return int(any(row.value == "FAILED" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
