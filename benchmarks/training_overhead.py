"""The cost of a training step with RoseLoRA, PEFT's LoRA, AdaLoRA and DoRA: time and peak memory.

All methods use the same demo model, batches, optimizer (AdamW) and clipping. RoseLoRA prunes to its target density in
every step after the first; it gets cheaper later, when the averages of pruned entries have become 0. Steps of the
methods are interleaved. Times are medians over rounds; ratios are medians of the ratio to LoRA's step in the same
round. Memory is each method's peak beyond what its process used after loading the model. Each measurement runs in a
process of its own.

    python benchmarks/training_overhead.py --output benchmarks/results/training_overhead.json
"""

import argparse
import copy
import json
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import AdaLoraConfig, LoraConfig, PeftConfig, get_peft_model

from roselora import RoseLoraConfig
from roselora.adapter.pruner import IMPORTANCE
from roselora.bench.metrics.cost import measured
from roselora.models.loading import load

SHAPES = {64: (1, 64), 512: (1, 512), 4096: (8, 512)}
ROUNDS = {64: 20, 512: 8, 4096: 3}
TOTAL = 10_000


def configs(targets: Any) -> dict[str, PeftConfig]:
    common: dict[str, Any] = {"lora_alpha": 16, "target_modules": targets}
    return {
        "lora": LoraConfig(r=8, **common),
        "rose": RoseLoraConfig(r=8, density=0.05, warmup=1, ramp=0, total_steps=TOTAL, **common),
        "adalora": AdaLoraConfig(init_r=12, target_r=8, tinit=1, tfinal=10, total_step=TOTAL, **common),
        "dora": LoraConfig(r=8, use_dora=True, **common),
    }


class Training:
    """One method's model and optimizer, a step at a time."""

    def __init__(self, base: Any, name: str, config: PeftConfig) -> None:
        torch.manual_seed(0)
        self.name = name
        self.model: Any = get_peft_model(base, config).train()
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4)
        self.steps = 0

    def step(self, tokens: torch.Tensor) -> float:
        start = time.perf_counter()
        self.model(input_ids=tokens, labels=tokens).loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        if self.name == "adalora":
            self.model.base_model.update_and_allocate(self.steps)
        self.optimizer.zero_grad()
        self.steps += 1
        return time.perf_counter() - start


def batches(tokens: int, vocabulary: int) -> Callable[[int], torch.Tensor]:
    def batch(number: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(number)
        return torch.randint(10, vocabulary, SHAPES[tokens], generator=generator)

    return batch


def measure_times(methods: list[str], targets: Any, tokens: int, rounds: int) -> dict[str, Any]:
    base = load("demo").model
    batch = batches(tokens, base.config.vocab_size)
    trainings = [Training(copy.deepcopy(base), name, configs(targets)[name]) for name in methods]
    times: dict[str, list[float]] = {training.name: [] for training in trainings}
    for number in range(rounds + 1):
        data = batch(number)
        # A different order each round, so that no method always follows the same one.
        for training in trainings[number % len(methods) :] + trainings[: number % len(methods)]:
            seconds = training.step(data)
            if number:  # the first step allocates
                times[training.name].append(seconds)
    return {
        name: {
            "median_s": statistics.median(seconds),
            "ratio_to_lora": statistics.median(a / b for a, b in zip(seconds, times["lora"], strict=True)),
            "ratio_quartiles": _quartiles([a / b for a, b in zip(seconds, times["lora"], strict=True)]),
        }
        for name, seconds in times.items()
    }


def _quartiles(values: list[float]) -> list[float]:
    low, _, high = statistics.quantiles(values, n=4)
    return [low, high]


def measure_memory(name: str, targets: Any, tokens: int) -> dict[str, Any]:
    """In a process of its own: the peak of two steps, beyond what was in use before the adapter was added."""
    model = load("demo").model
    batch = batches(tokens, model.config.vocab_size)
    with measured(torch.device("cpu")) as use:
        training = Training(model, name, configs(targets)[name])
        for number in range(2):
            training.step(batch(number))
    parameters = sum(p.numel() for p in training.parameters)
    own = sum(
        state[IMPORTANCE].numel() * state[IMPORTANCE].element_size()
        for state in training.optimizer.state.values()
        if IMPORTANCE in state
    )
    return {
        "peak_mib": use.peak_bytes / 2**20,
        "parameters": parameters,
        "importance_bytes_a_parameter": own / parameters,
    }


def in_a_process(function: str, *arguments: Any) -> Any:
    """The result of a function of this file in a new process, or None if it was killed for lack of memory."""
    done = subprocess.run(
        [sys.executable, __file__, "--call", function, json.dumps(arguments)], stdout=subprocess.PIPE, text=True
    )
    if done.returncode == -signal.SIGKILL:
        return None
    done.check_returncode()
    return json.loads(done.stdout)


def main() -> None:
    if sys.argv[1:2] == ["--call"]:
        print(json.dumps(globals()[sys.argv[2]](*json.loads(sys.argv[3]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", choices=sorted(SHAPES), default=sorted(SHAPES))
    parser.add_argument("--rounds", type=int, help="rounds at every size; 20, 8 and 3 by default")
    parser.add_argument("--targets", default="all-linear", help="all-linear, or names separated by commas")
    parser.add_argument("--methods", nargs="+", default=["lora", "rose", "adalora", "dora"], help="lora among them")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    targets = arguments.targets if arguments.targets == "all-linear" else arguments.targets.split(",")
    results: dict[str, Any] = {
        "sizes": {},
        "command": f"python benchmarks/training_overhead.py --targets {arguments.targets}",
        "model": "demo",
        "targets": arguments.targets,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    if arguments.output and arguments.output.exists():  # sizes that are not measured now stay
        results["sizes"] = json.loads(arguments.output.read_text())["sizes"]
    for tokens in arguments.tokens:
        rounds = arguments.rounds or ROUNDS[tokens]
        size = in_a_process("measure_times", arguments.methods, targets, tokens, rounds)
        results["sizes"][str(tokens)] = {"rounds": rounds, "methods": size}
        for name, row in size.items():
            row["memory"] = None if arguments.no_memory else in_a_process("measure_memory", name, targets, tokens)
            line = f"{tokens:5} tokens  {name:8} {row['median_s'] * 1e3:9.1f} ms  {row['ratio_to_lora']:.3f} x LoRA"
            line += " [{:.3f}, {:.3f}]".format(*row["ratio_quartiles"])
            if row["memory"] is not None:
                line += "  peak {peak_mib:.0f} MiB, {importance_bytes_a_parameter:.1f} B/parameter".format(
                    **row["memory"]
                )
            print(line, flush=True)
        if arguments.output:
            arguments.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
