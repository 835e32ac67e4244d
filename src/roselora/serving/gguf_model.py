"""Writes an edited model as a copy of its base's GGUF file in which only the changed tensors are others.

The changed tensors are not quantized: they keep the dtype that the model has in memory, because quantizing them again
would take an edit away, or a part of it. Their names are in the file's metadata, under `EDITED`. Everything else is
copied as it is.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, Keys
from torch import Tensor
from transformers import PreTrainedModel

from roselora.errors import ModelError
from roselora.files import user_path
from roselora.models.pretrained import is_gguf
from roselora.serving.gguf_names import in_ggufs_order, tensor_name

EDITED = "roselora.edited_tensors"
"""The metadata's list of the tensors that edits have changed."""

TYPES = {torch.float32: GGMLQuantizationType.F32, torch.float16: GGMLQuantizationType.F16}

_Stored = tuple[npt.NDArray[Any], GGMLQuantizationType]
"""A tensor's rows, or the bytes of its rows, and its type."""


def require_gguf_base(name: str | None) -> Path:
    """The GGUF file that a base model was loaded from.

    Raises:
        ModelError: it was loaded from something else.
    """
    if not is_gguf(path := user_path(name or "")):
        raise ModelError(
            f"{name or 'The base'} is no GGUF file, of which an edited copy could be made; edit the GGUF file itself, "
            "or export gguf-lora, which llama.cpp loads beside any GGUF of the base."
        )
    return path


def export_gguf(
    weights: Mapping[str, Tensor], path: str | os.PathLike[str], model: PreTrainedModel, base: GGUFReader
) -> None:
    """Copy a GGUF file with other tensors in the place of some.

    Args:
        weights: the edited weights by their names in the model, such as "model.layers.0.mlp.down_proj.weight".
        path: a new file.
        model: the edited model; only its config matters.
        base: the GGUF file of the base; reading a large vocabulary takes seconds.

    Raises:
        UnsupportedError: llama.cpp does not know such a model, or one of the layers.
        ModelError: the file has no such tensor.
        OSError: the file cannot be written.
    """
    edited = dict(_named(weights, model))
    if absent := edited.keys() - {tensor.name for tensor in base.tensors}:
        raise ModelError(f"The base has no tensor {min(absent)}, which was edited; export the merged model instead.")
    writer = GGUFWriter(path, base.fields[Keys.General.ARCHITECTURE].contents())
    for field in base.fields.values():
        # The writer has the first of these already, and the second is written below.
        # An empty list, which the writer cannot write, is as good as none.
        if field.name in (Keys.General.ARCHITECTURE, EDITED) or field.name.startswith("GGUF."):
            continue
        if field.types != [GGUFValueType.ARRAY]:
            writer.add_key_value(field.name, field.contents(), field.types[0], field.types[-1])
    earlier = base.fields[EDITED].contents() if EDITED in base.fields else []  # the base may be such a file itself
    writer.add_key_value(EDITED, sorted({*edited, *earlier}), GGUFValueType.ARRAY, GGUFValueType.STRING)
    writer.data_alignment = base.alignment
    written = [(each.name, *edited.get(each.name, (each.data, each.tensor_type))) for each in base.tensors]
    for name, data, kind in written:
        writer.add_tensor_info(name, data.shape, data.dtype, data.nbytes, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, data, _ in written:
        writer.write_tensor_data(data)
    writer.close()


def holds_gguf(path: Path, weights: Mapping[str, Tensor], model: PreTrainedModel, base: GGUFReader) -> bool:
    """Whether a GGUF file holds the edited weights, and the bytes of its base in every other tensor."""
    edited = dict(_named(weights, model))
    wanted = {each.name: edited.get(each.name, (each.data, each.tensor_type)) for each in base.tensors}
    saved = {each.name: (each.data, each.tensor_type) for each in GGUFReader(path).tensors}
    return saved.keys() == wanted.keys() and all(
        saved[name][1] == kind and np.array_equal(saved[name][0].view(np.uint8), data.view(np.uint8))
        for name, (data, kind) in wanted.items()
    )


def _named(weights: Mapping[str, Tensor], model: PreTrainedModel) -> Iterator[tuple[str, _Stored]]:
    """The weights by llama.cpp's names, as GGUF stores them."""
    for name, weight in weights.items():
        module = name.removesuffix(".weight")
        rows = in_ggufs_order(model, module, weight.detach().cpu()).contiguous()
        if rows.dtype == torch.bfloat16:  # which numpy does not have
            yield tensor_name(model, module), (rows.view(torch.uint8).numpy(), GGMLQuantizationType.BF16)
        else:
            yield tensor_name(model, module), (rows.numpy(), TYPES[rows.dtype])
