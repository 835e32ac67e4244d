"""How llama.cpp names a model's weights, and in which order it keeps their rows."""

from gguf import MODEL_ARCH, get_tensor_name_map
from torch import Tensor
from transformers import PreTrainedModel

from roselora.errors import UnsupportedError

ARCHITECTURES = {
    "llama": MODEL_ARCH.LLAMA,
    "mistral": MODEL_ARCH.LLAMA,
    "qwen2": MODEL_ARCH.QWEN2,
    "qwen3": MODEL_ARCH.QWEN3,
    "gemma2": MODEL_ARCH.GEMMA2,
    "gemma3_text": MODEL_ARCH.GEMMA3,
}
"""llama.cpp's architecture by transformers' type of model: dense ones whose linear weights it takes one by one."""


def architecture(model: PreTrainedModel) -> MODEL_ARCH:
    """llama.cpp's architecture of a model.

    Raises:
        UnsupportedError: it is none of `ARCHITECTURES`.
    """
    kind = model.config.model_type
    if kind not in ARCHITECTURES:
        raise UnsupportedError(
            f"GGUF is written for models of the types {', '.join(ARCHITECTURES)}, and this is {kind}; export the "
            "merged model, and convert it with llama.cpp's own script."
        )
    return ARCHITECTURES[kind]


def tensor_name(model: PreTrainedModel, module: str) -> str:
    """llama.cpp's name of a linear layer's weight, such as "blk.0.ffn_down.weight".

    Raises:
        UnsupportedError: llama.cpp does not know such a model or layer.
    """
    names = get_tensor_name_map(architecture(model), model.config.num_hidden_layers)
    found = names.get_name(module)
    if found is None:
        raise UnsupportedError(f"llama.cpp has no name for {module}; export the merged model instead.")
    return f"{found}.weight"


def in_ggufs_order(model: PreTrainedModel, module: str, rows: Tensor) -> Tensor:
    """The rows (d_out, n) of a layer's weight, or of its update's B, in the order in which llama.cpp keeps them.

    transformers rotates a head's first half of rows with its second half; llama.cpp's Llama rotates neighbours.
    """
    kind = module.rpartition(".")[2]
    if architecture(model) is not MODEL_ARCH.LLAMA or kind not in ("q_proj", "k_proj"):
        return rows
    config = model.config
    heads = config.num_attention_heads if kind == "q_proj" else config.num_key_value_heads
    return rows.reshape(heads, 2, -1, rows.shape[1]).transpose(1, 2).reshape(rows.shape)
