"""Which modules of a model to adapt or edit, found from its own structure."""

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from roselora.errors import ConfigError, UnsupportedError

EDIT_TARGETS = ("v_proj", "down_proj")
"""The value projection of the attention and the output of the MLP, as Llama, Qwen, Gemma and Mistral name them."""


def edit_targets(model: nn.Module, preferred: Sequence[str] = EDIT_TARGETS) -> str | list[str]:
    """The modules that an edit adapts, as PEFT's ``target_modules``: those preferred, or every linear layer.

    Args:
        preferred: names of modules, which are chosen if the model has them all.
    """
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return list(preferred) if names.issuperset(preferred) else "all-linear"


def block_names(model: PreTrainedModel) -> list[str]:
    """The names of the model's transformer blocks, in order: the longest list of modules in the model.

    Raises:
        UnsupportedError: there is no list of modules.
    """
    lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise UnsupportedError(f"{type(model).__name__} has no list of blocks, so no layer can be chosen by depth.")
    name, longest = max(lists, key=lambda pair: len(pair[1]))
    return [f"{name}.{index}" for index in range(len(longest))]


def block_at(model: PreTrainedModel, depth: float) -> int:
    """The index of the block at a fraction of the model's depth: 0 is the first, 1 the last.

    Raises:
        ConfigError: ``depth`` is not between 0 and 1.
    """
    if not 0 <= depth <= 1:
        raise ConfigError(f"A depth must be between 0 and 1, not {depth}.")
    return round(depth * (len(block_names(model)) - 1))


def hidden_width(model: PreTrainedModel) -> int:
    """The size of the hidden states between blocks.

    Raises:
        UnsupportedError: the config has several, as that of a model that reads images too.
    """
    width = getattr(model.config, "hidden_size", None)
    if not isinstance(width, int):
        raise UnsupportedError(
            f"The config of {type(model).__name__} has no hidden_size: name a model that reads and writes text alone."
        )
    return width


def mlp_output(model: PreTrainedModel, block: int) -> str:
    """The name of the output layer of a block's MLP, such as down_proj, c_proj or fc2.

    It is the block's last linear layer, outside the attention, whose output has the width of the hidden state.

    Raises:
        ConfigError: there is no such block.
        UnsupportedError: the block has no such layer, or several experts.
    """
    names = block_names(model)
    if not 0 <= block < len(names):
        raise ConfigError(f"There is no layer {block}: the model has the layers 0 to {len(names) - 1}.")
    width = hidden_width(model)
    writers = [
        name
        for name, module in model.get_submodule(names[block]).named_modules()
        if "attn" not in name
        and "attention" not in name
        and (
            (isinstance(module, nn.Linear) and module.out_features == width)
            or (isinstance(module, Conv1D) and module.nf == width)
        )
    ]
    if not writers or "expert" in writers[-1]:
        raise UnsupportedError(f"{names[block]} has no single linear layer that writes its MLP's output.")
    return f"{names[block]}.{writers[-1]}"
