"""Patch files: the entries of a model's weights that edits change, with their new and their old values.

It is for programs that set weights in place and know nothing of factors. The values are absolute, in the base's own
dtype, so a patch is exact, may be applied twice, and can be taken back. The file is one safetensors file. For each
weight NAME of the checkpoint, in the order of the names, it holds three one-dimensional tensors of the same length:

    NAME.index      I32, or I64 where the weight has more than 2^31 - 1 entries: positions in the weight as the
                    checkpoint stores it, flattened row by row; ascending, each once
    NAME.value      of the weight's dtype: what stands there in the edited model
    NAME.old_value  of the same dtype: what stands there in the base model, which differs in at least one bit

and one entry under __metadata__, "roselora_patches", a JSON object:

    format_version    2
    weights           for each NAME: "shape", the sizes of the weight; "dtype", such as "bfloat16"; and "base_sha256",
                      the SHA-256 that roselora.files.sha256_tensor gives the base weight

Version 1, which is read but no longer written, has no old values, and its values are float32 and to be added to the
base: weight[i] = round(float32(weight[i]) + value). See docs/file-formats.md.
"""

import json
import os
from collections.abc import Iterable

import safetensors.torch
import torch
from torch import Tensor

from roselora.files import dtype_name, sha256_tensor, write_atomically

PATCH_FORMAT_VERSION = 2

HEADER = "roselora_patches"
"""The name of the patch's own entry among the file's metadata."""


def export_patch(changed: Iterable[tuple[str, Tensor, Tensor]], path: str | os.PathLike[str]) -> None:
    """Write what distinguishes edited weights from those of the base as one patch file.

    Args:
        changed: each weight's name in the checkpoint, the base weight, and the edited one, of one shape and dtype. A
            weight that is equal bit for bit is left out.
        path: the file.

    Raises:
        OSError: the file cannot be written; a file that was there is unchanged.

    Example:
        >>> from safetensors.torch import load_file
        >>> export_patch([("w", torch.zeros(2, 3), torch.tensor([[0.0, 0, 5], [0, 0, -1]]))], "patch.safetensors")
        >>> patch = load_file("patch.safetensors")
        >>> patch["w.index"], patch["w.value"], patch["w.old_value"]
        (tensor([2, 5], dtype=torch.int32), tensor([ 5., -1.]), tensor([0., 0.]))
    """
    tensors: dict[str, Tensor] = {}
    table = {}
    for name, base, edited in sorted(changed, key=lambda each: each[0]):
        old, new = (weight.detach().cpu().contiguous().view(-1) for weight in (base, edited))
        index = (bits(old) != bits(new)).nonzero().view(-1)
        if not len(index):
            continue
        tensors[f"{name}.index"] = index if old.numel() > 2**31 - 1 else index.to(torch.int32)
        tensors[f"{name}.value"], tensors[f"{name}.old_value"] = new[index], old[index]
        table[name] = {"shape": base.shape, "dtype": dtype_name(base.dtype), "base_sha256": sha256_tensor(base)}
    text = json.dumps({"format_version": PATCH_FORMAT_VERSION, "weights": table}, separators=(",", ":"))
    write_atomically(path, safetensors.torch.save(tensors, {HEADER: text}), follow_link=True)


def bits(values: Tensor) -> Tensor:
    """The values as integers: 0.0 and -0.0 are two values here, and NaN equals itself."""
    return values.view({2: torch.int16, 4: torch.int32}[values.element_size()])
