"""The size of a delta file beside a bf16 LoRA adapter of the same rank, for a model of LLaMA-7B's shapes.

    python benchmarks/adapter_size.py [--densities 0.05 0.01 0.005] [--json out.json]

Both files are really written, for all seven linear layers of all 32 blocks at rank 8: the adapter as PEFT lays it out
(one bf16 tensor each for A and B), and the delta by `roselora.delta.delta_file.save`, with bf16 values at random
places, max(1, floor(density * length)) in each row of A and column of B. Beside the ratio stands what the file would
take with plain 16-bit indices, and with an ideal code for random places (the entropy), both without a header.
"""

import argparse
import json
import math
import os
import tempfile
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from roselora.delta.delta_file import load, save
from roselora.delta.sparse_delta import SparseDelta, SparseFactors

RANK, BLOCKS = 8, 32
LINEARS = {
    "self_attn.q_proj": (4096, 4096),
    "self_attn.k_proj": (4096, 4096),
    "self_attn.v_proj": (4096, 4096),
    "self_attn.o_proj": (4096, 4096),
    "mlp.gate_proj": (11008, 4096),
    "mlp.up_proj": (11008, 4096),
    "mlp.down_proj": (4096, 11008),
}


def modules() -> dict[str, tuple[int, int]]:
    """Every linear layer's name and (d_out, d_in)."""
    return {f"model.layers.{block}.{name}": shape for block in range(BLOCKS) for name, shape in LINEARS.items()}


def lora_bytes(folder: Path) -> int:
    """Write the adapter as PEFT would, and say how long the file is."""
    tensors = {}
    for name, (d_out, d_in) in modules().items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.randn(RANK, d_in).bfloat16()
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.randn(d_out, RANK).bfloat16()
    safetensors.torch.save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return os.path.getsize(folder / "adapter_model.safetensors")


def kept(length: int, density: float) -> tuple[Tensor, Tensor]:
    """bf16 values (r, k) and their ascending places (r, k)."""
    keep = max(1, int(density * length))
    places = torch.rand(RANK, length).topk(keep, dim=1).indices.sort(dim=1).values
    return torch.randn(RANK, keep).bfloat16(), places


def delta_of(density: float) -> SparseDelta:
    """A delta of every linear layer."""
    weights = []
    for name, (d_out, d_in) in modules().items():
        a_values, a_columns = kept(d_in, density)
        b_values, b_rows = kept(d_out, density)
        sha256 = "".join(f"{byte:02x}" for byte in torch.randint(256, (32,)).tolist())
        weights.append(
            SparseFactors(
                f"{name}.weight", a_values, a_columns, b_values, b_rows, 4.0, (d_out, d_in), "linear",
                torch.bfloat16, sha256,
            )
        )  # fmt: skip
    return SparseDelta(tuple(weights), {"method": "roselora", "config": {"r": RANK, "density": density}, "seed": 0})


def ideal_bytes(density: float) -> float:
    """Values, and log2 of the number of ways to choose the places, for every row."""
    bits = 0.0
    for shape in modules().values():
        for length in shape:
            keep = max(1, int(density * length))
            ways = math.lgamma(length + 1) - math.lgamma(keep + 1) - math.lgamma(length - keep + 1)
            bits += RANK * (16 * keep + ways / math.log(2))
    return bits / 8


def main() -> None:
    """Write the files, print the ratios, and write the JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--densities", type=float, nargs="+", default=[0.05, 0.01, 0.005])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        lora = lora_bytes(Path(folder))
        print(f"bf16 LoRA, rank {RANK}, {len(modules())} matrices: {lora / 1e6:.3f} MB")
        for density in options.densities:
            path = Path(folder) / "delta.safetensors"
            save(delta_of(density), path)
            load(path)
            size = os.path.getsize(path)
            header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
            numbers = sum(RANK * max(1, int(density * length)) for shape in modules().values() for length in shape)
            row = {
                "density": density,
                "lora_bytes": lora,
                "delta_bytes": size,
                "header_bytes": header,
                "times_smaller": lora / size,
                "times_smaller_16_bit_indices": lora / (4 * numbers),
                "times_smaller_ideal": lora / ideal_bytes(density),
            }
            rows.append(row)
            print(
                f"density {density}: {size / 1e6:.3f} MB, header {header / 1e3:.0f} kB: 1/{lora / size:.1f}; "
                f"16-bit indices 1/{row['times_smaller_16_bit_indices']:.1f}, "
                f"ideal code 1/{row['times_smaller_ideal']:.1f}"
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
