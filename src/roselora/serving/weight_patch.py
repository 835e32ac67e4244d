"""Deltas as a patch file: for each weight, the entries that change and what to add to them.

It is for programs that patch weights in place and do not know about factors. The file is one safetensors file. For each
weight NAME, in the order of the names, it holds two one-dimensional tensors of the same length:

    NAME.index    I32, or I64 where the weight has more than 2^31 - 1 entries: positions in the weight as the model
                  stores it, flattened row by row; ascending, each once
    NAME.value    F32: what to add there

and one entry under __metadata__, "roselora_patches", a JSON object:

    format_version    1
    weights           for each NAME: "shape", the two sizes of the weight as stored; "dtype", such as "bfloat16"; and
                      "base_sha256", the SHA-256 that roselora.files.sha256_tensor gives the base weight

To apply it, add in float32 and round once: weight[i] = round(float32(weight[i]) + value). To take it back, write the
old values again: subtracting what was added does not give the same bits. See docs/file-formats.md.
"""

import json
import os
from collections.abc import Iterable

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from roselora.delta.combination import by_weight
from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.files import dtype_name, write_atomically

PATCH_FORMAT_VERSION = 1


def export_patches(deltas: Iterable[SparseDelta], path: str | os.PathLike[str]) -> None:
    """Write the sum of `deltas`, in this order and in float32, as one patch file.

    For one delta the patched weights are bit for bit what `Overlay` makes. For several they may differ from it in the
    last bit: the overlay adds the deltas to the original one by one, a patch is one sum.

    Raises:
        ConfigError: there are no deltas, or they were made for different bases.
        OSError: the file cannot be written; a file that was there is unchanged.

    Example:
        >>> from safetensors.torch import load_file
        >>> from roselora.delta.layer_kinds import layer_factors
        >>> A, B = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0], [0.0], [3.0]])
        >>> delta = SparseDelta((layer_factors("layer", torch.nn.Linear(2, 3), A, B, scale=0.5),))
        >>> export_patches([delta], "patch.safetensors")
        >>> patch = load_file("patch.safetensors")
        >>> patch["layer.weight.index"], patch["layer.weight.value"]
        (tensor([1, 5], dtype=torch.int32), tensor([1., 3.]))
    """
    tensors: dict[str, Tensor] = {}
    table = {}
    for name, parts in sorted(by_weight(deltas).items()):
        first = parts[0]
        index, value = _sum(parts)
        wide = first.shape[0] * first.shape[1] > 2**31 - 1
        tensors[f"{name}.index"] = index if wide else index.to(torch.int32)
        tensors[f"{name}.value"] = value
        table[name] = {
            "shape": first.stored_shape,
            "dtype": dtype_name(first.base_dtype),
            "base_sha256": first.base_sha256,
        }
    header = {"format_version": PATCH_FORMAT_VERSION, "weights": table}
    text = json.dumps(header, separators=(",", ":"))
    write_atomically(path, safetensors.torch.save(tensors, {"roselora_patches": text}), follow_link=True)


def _sum(parts: list[SparseFactors]) -> tuple[Tensor, Tensor]:
    """Index and value of the sum of the parts, added in float32 in their order."""
    index, value = parts[0].expand()
    for part in parts[1:]:
        other_index, other_value = part.expand()
        union = np.union1d(index.numpy(), other_index.numpy())
        total = np.zeros(union.size, np.float32)
        total[np.searchsorted(union, index.numpy())] = value.numpy()
        total[np.searchsorted(union, other_index.numpy())] += other_value.numpy()
        index, value = torch.from_numpy(union), torch.from_numpy(total)
    return index, value
