"""Writes a SparseDelta as a LoRA adapter in a GGUF file, which llama.cpp and Ollama load beside their GGUF of the base.

For each weight NAME, as llama.cpp calls it, the file holds NAME.lora_a (r, d_in) and NAME.lora_b (d_out, r), in fp32.
"""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import MODEL_ARCH_NAMES, GGUFReader, GGUFType, GGUFWriter, Keys
from transformers import PreTrainedModel

from roselora.delta.sparse_delta import SparseDelta
from roselora.errors import UnsupportedError
from roselora.serving.gguf_names import architecture, in_ggufs_order, tensor_name
from roselora.serving.lora_factors import with_scale_in_b


def export_gguf_lora(delta: SparseDelta, path: str | os.PathLike[str], model: PreTrainedModel) -> None:
    """Write `delta` as a GGUF adapter for `model`.

    llama.cpp divides alpha by each tensor's own rank, and takes an alpha of 0 to mean that nothing is to be scaled. So
    alpha is 0, each weight keeps its own rank, and its scale is multiplied into B.

    Args:
        delta: the update.
        path: a new file.
        model: the base model; only its config matters.

    Raises:
        ConfigError: a weight is not a layer's.
        UnsupportedError: llama.cpp does not know such a model, or one of the layers.
        NonFiniteError: a scaled B is not finite in fp32.
        OSError: the file cannot be written.
    """
    writer = GGUFWriter(path, MODEL_ARCH_NAMES[architecture(model)])
    writer.add_type(GGUFType.ADAPTER)
    writer.add_string(Keys.Adapter.TYPE, "lora")
    writer.add_float32(Keys.Adapter.LORA_ALPHA, 0.0)
    for name, tensor in _tensors(delta, model).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def holds_gguf_lora(path: Path, delta: SparseDelta, model: PreTrainedModel) -> bool:
    """Whether a GGUF adapter holds exactly the factors of a delta."""
    saved = {tensor.name: tensor.data for tensor in GGUFReader(path).tensors}
    wanted = _tensors(delta, model)
    return saved.keys() == wanted.keys() and all(np.array_equal(saved[name], wanted[name]) for name in wanted)


def _tensors(delta: SparseDelta, model: PreTrainedModel) -> dict[str, npt.NDArray[np.float32]]:
    """The file's tensors by name."""
    found = {}
    for module, factors, A, B in with_scale_in_b(delta):
        if factors.layer != "linear":
            raise UnsupportedError(f"{module} is no Linear, so llama.cpp takes no adapter of it; export the model.")
        name = tensor_name(model, module)
        found[f"{name}.lora_a"] = A.numpy()
        found[f"{name}.lora_b"] = in_ggufs_order(model, module, B).contiguous().numpy()
    return found
