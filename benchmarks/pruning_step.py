"""Time one whole pruning step (sensitivity, smoothing, pruning) over many factors, against simpler ways.

All ways share Eq. 3 and 4 and differ in how they select and zero; they take turns within one run.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from roselora.core.importance import sensitivity, smooth_importance_
from roselora.core.pruning import kept_count, prune_columns_, prune_rows_

DENSITIES = (0.5, 0.05, 0.005)
BETA = 0.8


class Factors:
    """Weights, gradients and averages of one kind of factor, restored before every measurement."""

    def __init__(self, shape: tuple[int, ...], count: int, dim: int, device: str) -> None:
        self.dim = dim
        self.prune_ = prune_rows_ if dim == -1 else prune_columns_
        self.weights = [torch.randn(shape, device=device) for _ in range(count)]
        self.gradients = [torch.randn(shape, device=device) for _ in range(count)]
        self.averages = [torch.rand(shape, device=device) for _ in range(count)]
        self._saved = [tensor.clone() for tensor in self.weights + self.averages]

    def restore(self) -> None:
        """Undo what the last measurement changed."""
        for tensor, saved in zip(self.weights + self.averages, self._saved, strict=True):
            tensor.copy_(saved)


def step_all(groups: list[Factors], density: float, prune_: Callable[..., None]) -> None:
    """Run the whole pruning step on every factor."""
    for factors in groups:
        for weight, gradient, average in zip(factors.weights, factors.gradients, factors.averages, strict=True):
            smooth_importance_(average, sensitivity(weight, gradient), BETA)
            prune_(factors, weight, average, density)


def ours(factors: Factors, weight: Tensor, average: Tensor, density: float) -> None:
    """Prune with roselora: exact counts, ties by index."""
    factors.prune_(weight, average, density)


def naive(factors: Factors, weight: Tensor, average: Tensor, density: float) -> None:
    """Prune by kthvalue and a threshold test, which keeps too many where scores tie."""
    length = weight.shape[factors.dim]
    rank = length - kept_count(density, length) + 1
    threshold = average.kthvalue(rank, dim=factors.dim, keepdim=True).values
    weight.masked_fill_(average < threshold, 0)


def topk(factors: Factors, weight: Tensor, average: Tensor, density: float) -> None:
    """Prune by torch.topk and the same threshold test."""
    kept = kept_count(density, weight.shape[factors.dim])
    threshold = average.topk(kept, dim=factors.dim).values.amin(factors.dim, keepdim=True)
    weight.masked_fill_(average < threshold, 0)


def milliseconds(work: Callable[[], object], device: str) -> float:
    """Return how long the work took, the device's own queue included."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3


def adamw(groups: list[Factors]) -> torch.optim.AdamW:
    """Return an optimizer over copies of all the weights, with gradients set and its state built."""
    copies = []
    for group in groups:
        for weight, gradient in zip(group.weights, group.gradients, strict=True):
            copy = weight.clone().requires_grad_()
            copy.grad = gradient
            copies.append(copy)
    optimizer = torch.optim.AdamW(copies)
    optimizer.step()
    return optimizer


def measure(args: argparse.Namespace, device: str) -> dict[tuple[str, float | None], list[float]]:
    """Return the milliseconds of every round, by way and density."""
    a_shape, b_shape = (args.rank, args.width), (args.width, args.rank)
    loose = [Factors(a_shape, args.count, -1, device), Factors(b_shape, args.count, -2, device)]
    ways = {"ours": (loose, ours), "naive": (loose, naive), "topk": (loose, topk)}
    if device == "cuda":
        stacked = [Factors((args.count, *a_shape), 1, -1, device), Factors((args.count, *b_shape), 1, -2, device)]
        ways["ours, stacked"] = (stacked, ours)
    optimizer = adamw(loose)
    times: dict[tuple[str, float | None], list[float]] = {}
    for repeat in range(args.repeats + 1):
        for density in DENSITIES:
            for name, (groups, prune_) in ways.items():
                for group in groups:
                    group.restore()
                spent = milliseconds(partial(step_all, groups, density, prune_), device)
                if repeat:  # the first round warms up
                    times.setdefault((name, density), []).append(spent)
        spent = milliseconds(optimizer.step, device)
        if repeat:
            times.setdefault(("AdamW step", None), []).append(spent)
    return times


def report(times: dict[tuple[str, float | None], list[float]]) -> list[dict[str, object]]:
    """Print one line for each way and density, and return the same as rows."""
    rows: list[dict[str, object]] = []
    print(f"{'way':<15}{'density':>8}{'median ms':>11}{'min - max':>18}{'of naive':>10}")
    for (name, density), values in times.items():
        median = statistics.median(values)
        base = times.get(("naive", density))
        ratio = median / statistics.median(base) if base else None
        spread = f"{min(values):.2f} - {max(values):.2f}"
        print(f"{name:<15}{density or '':>8}{median:>11.2f}{spread:>18}{f'{ratio:.2f}' if ratio else '':>10}")
        rows.append({"way": name, "density": density, "ratio_to_naive": ratio, "milliseconds": values})
    return rows


def main() -> None:
    """Read the arguments, measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the configuration and every time to this file")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--count", type=int, default=64, help="how many A, and as many B")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--width", type=int, default=4096)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = {name: value for name, value in vars(args).items() if name != "json"}
    config |= {"device": torch.cuda.get_device_name() if device == "cuda" else platform.machine()}
    config |= {
        "dtype": "float32",
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    print(", ".join(f"{name} {value}" for name, value in config.items()))
    rows = report(measure(args, device))
    if args.json:
        args.json.write_text(json.dumps({"config": config, "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
