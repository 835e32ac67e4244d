"""Applying and removing one delta, against merging and unmerging the same factors with PEFT.

    python benchmarks/apply_remove.py [--matrices 64] [--repeats 7] [--json out.json]

The matrices are bf16 and have LLaMA-7B's shapes (of each seven: four 4096 x 4096, two 11008 x 4096, one
4096 x 11008). For each density, and at rank 8, one run goes over them and measures in turn, matrix by matrix:

- peft: `LoraLayer.merge()` and `unmerge()` of one LoRA layer that holds the same factors;
- applied: `Overlay.apply` and `remove` of a delta that is already expanded in memory;
- from factors: the same, and the expansion of the factors to entries;
- from file: the same, and `load` from a file in the page cache.

The base's hash is known in all three (an Overlay computes it once for each weight). Reported are medians over
matrices and repeats, the ratio of sums, and the share of the entries the delta touches that differ from the
base afterwards. The second table applies a thousand deltas to one matrix, one after another, and takes each
of the first, the tenth, the hundredth and the thousandth away and brings it back.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from roselora.delta.delta_file import load, save
from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.files import sha256_tensor

SHAPES = [(4096, 4096)] * 4 + [(11008, 4096)] * 2 + [(4096, 11008)]
RANK, ALPHA = 8, 32
NTH_COLUMNS = ("n", "apply_last", "remove_last", "redo_last", "remove_first", "redo_first")


class Bench(nn.Module):
    """Matrices that stand in for a model's linear layers."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for number in range(count):
            d_out, d_in = SHAPES[number % len(SHAPES)]
            layer = nn.Linear(d_in, d_out, bias=False, dtype=torch.bfloat16, device="meta").to_empty(device="cpu")
            nn.init.normal_(layer.weight, std=0.02)
            self.layers.append(layer)


def kept(rows: int, length: int, density: float) -> Tensor:
    """(rows, length) with exactly max(1, floor(density * length)) random entries in each row."""
    keep = max(1, int(density * length))
    columns = torch.rand(rows, length).topk(keep, dim=1).indices
    return torch.zeros(rows, length).scatter_(1, columns, torch.randn(rows, keep) * 0.01)


def factors_for(name: str, weight: Tensor, density: float, base_sha256: str | None = None) -> SparseFactors:
    """Random factors for one weight, bf16 like it."""
    d_out, d_in = weight.shape
    A, B = kept(RANK, d_in, density).bfloat16(), kept(RANK, d_out, density).T.bfloat16()
    base_sha256 = base_sha256 or sha256_tensor(weight)
    return SparseFactors.from_factors(name, A, B, ALPHA / RANK, base_dtype=weight.dtype, base_sha256=base_sha256)


def clocked(action: Callable[[], object]) -> float:
    """Seconds that `action` takes."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def different(weight: Tensor, base: Tensor, touched: Tensor) -> float:
    """The share of the touched entries whose bits are not the base's."""
    flat = weight.detach().view(-1)[touched].view(torch.int16)
    return (flat != base.view(-1)[touched].view(torch.int16)).float().mean().item()


def peft_times(weight: Tensor, factors: SparseFactors, repeats: int) -> tuple[list[float], float]:
    """Seconds of merge + unmerge, and the share of touched entries that do not come back the first time."""
    holder = nn.ModuleDict({"layer": nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")})
    holder["layer"].weight = nn.Parameter(weight.clone(), requires_grad=False)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["layer"])
    layer = get_peft_model(holder, config, autocast_adapter_dtype=False).base_model.model["layer"]
    A, B = factors.to_factors()
    layer.lora_A["default"].weight.data = A
    layer.lora_B["default"].weight.data = B
    times, left = [], 0.0
    for repeat in range(repeats):
        times.append(clocked(layer.merge) + clocked(layer.unmerge))
        if repeat == 0:
            left = different(layer.base_layer.weight, weight, factors.expand()[0])
    return times, left


def our_times(
    live: Overlay, delta: SparseDelta, path: Path, repeats: int
) -> tuple[list[float], list[float], list[float]]:
    """Seconds of apply + remove: in memory, from the factors, from the file."""
    factors = delta.weights[0]
    applied, from_factors, from_file = [], [], []
    for _ in range(repeats):
        applied.append(clocked(lambda: live.apply("a", delta)) + clocked(lambda: live.remove("a")))
        del factors.__dict__["_entries"]
        from_factors.append(clocked(lambda: live.apply("a", delta)) + clocked(lambda: live.remove("a")))
        from_file.append(clocked(lambda: live.apply("a", load(path))) + clocked(lambda: live.remove("a")))
    return applied, from_factors, from_file


def compare(model: Bench, density: float, repeats: int) -> dict[str, Any]:
    """Merge and unmerge, and apply and remove, on every matrix in turn."""
    columns: dict[str, list[float]] = {"peft": [], "applied": [], "from factors": [], "from file": []}
    largest: dict[str, list[float]] = {key: [] for key in columns}
    left_peft, left_ours, share = [], [], []
    live = Overlay(model)
    with tempfile.TemporaryDirectory() as folder:
        for number, layer in enumerate(model.layers):
            weight, name = layer.weight.detach(), f"layers.{number}.weight"
            base = weight.clone()
            delta = SparseDelta((factors_for(name, weight, density),))
            save(delta, Path(folder) / "edit.safetensors")
            live.apply("warm", delta)
            live.remove("warm")
            theirs, left = peft_times(weight, delta.weights[0], repeats)
            ours = our_times(live, delta, Path(folder) / "edit.safetensors", repeats)
            touched = delta.weights[0].expand()[0]
            for key, times in zip(columns, [theirs, *ours], strict=True):
                columns[key].append(statistics.median(times))
                if number % len(SHAPES) == 0:
                    largest[key].append(statistics.median(times))
            left_peft.append(left)
            left_ours.append(0.0 if torch.equal(weight.view(torch.int16), base.view(torch.int16)) else 1.0)
            share.append(len(touched) / weight.numel())
    return {
        "density": density,
        "share_touched": statistics.mean(share),
        "ms_4096x4096": {key: statistics.median(times) * 1e3 for key, times in largest.items()},
        "seconds_all": {key: sum(times) for key, times in columns.items()},
        "times_faster": {key: sum(columns["peft"]) / sum(times) for key, times in columns.items() if key != "peft"},
        "left_different_peft": statistics.mean(left_peft),
        "left_different_ours": statistics.mean(left_ours),
    }


def remove_and_redo(live: Overlay, key: str, delta: SparseDelta, position: int) -> tuple[float, float]:
    """Median milliseconds of taking an active delta away, and of bringing it back to its place."""
    removed, redone = [], []
    for _ in range(7):
        removed.append(clocked(lambda: live.remove(key)) * 1e3)
        redone.append(clocked(lambda: live.apply(key, delta, position)) * 1e3)
    return statistics.median(removed), statistics.median(redone)


def nth_cost(density: float, counts: list[int]) -> list[dict[str, float]]:
    """Milliseconds for the n-th delta on one 4096 x 4096 matrix: apply, and remove and redo with n active."""
    model = Bench(1)
    live = Overlay(model)
    base = model.layers[0].weight.detach().clone()
    results: list[dict[str, float]] = []
    recent: list[float] = []
    first = SparseDelta((factors_for("layers.0.weight", base, density),))
    base_sha256 = first.weights[0].base_sha256
    live.apply("hash the base", first)
    live.remove("hash the base")
    for count in range(1, max(counts) + 1):
        factors = factors_for("layers.0.weight", base, density, base_sha256)
        delta = first if count == 1 else SparseDelta((factors,))
        delta.weights[0].expand()
        recent.append(clocked(partial(live.apply, str(count), delta)) * 1e3)
        if count in counts:
            last = remove_and_redo(live, str(count), delta, count)
            lowest = remove_and_redo(live, "1", first, 1)
            apply_last = statistics.median(recent[-9:])
            values = (count, apply_last, *last, *lowest)
            results.append(dict(zip(NTH_COLUMNS, values, strict=True)))
    for key in live.active:
        live.remove(key)
    assert torch.equal(model.layers[0].weight.view(torch.int16), base.view(torch.int16))
    return results


def print_row(row: dict[str, Any]) -> None:
    """What one density's run found."""
    each = ", ".join(f"{key} {ms:.3f}" for key, ms in row["ms_4096x4096"].items())
    faster = ", ".join(f"{key} {ratio:.0f}x" for key, ratio in row["times_faster"].items())
    left = f"PEFT {row['left_different_peft']:.1%}, ours {row['left_different_ours']:.1%}"
    print(f"density {row['density']}: touches {row['share_touched']:.3%}")
    print(f"  ms for one 4096 x 4096: {each}")
    print(f"  faster than PEFT, all matrices: {faster}")
    print(f"  touched entries left different: {left}")


def main() -> None:
    """Measure, print, and write the JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--matrices", type=int, default=80, help="80 take 4.2 GB")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--densities", type=float, nargs="+", default=[0.05, 0.01, 0.005])
    parser.add_argument("--deltas", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = Bench(options.matrices)
    print(f"{options.matrices} bf16 matrices, rank {RANK}, {options.threads} thread(s)")
    rows = []
    for density in options.densities:
        rows.append(compare(model, density, options.repeats))
        print_row(rows[-1])
    del model
    nth: dict[str, list[dict[str, float]]] = {}
    for density in options.densities:
        print(f"n-th delta on one 4096 x 4096, density {density}, ms:")
        # A thousand at 0.05 would need 13 GB.
        nth[str(density)] = nth_cost(density, [n for n in options.deltas if density < 0.05 or n <= 100])
        for row in nth[str(density)]:
            print("  " + ", ".join(f"{key} {value:.3f}" for key, value in row.items()))
    if options.json:
        about = {
            "matrices": options.matrices,
            "rank": RANK,
            "threads": options.threads,
            "torch": torch.__version__,
            "machine": platform.machine(),
        }
        options.json.write_text(json.dumps(about | {"compare": rows, "nth": nth}, indent=1))


if __name__ == "__main__":
    main()
