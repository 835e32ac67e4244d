"""Which layer of a model a method edits: by its relative depth, so that no model needs settings of its own."""

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from roselora.editing.methods.setting_bounds import BoundedSettings, number, whole
from roselora.errors import ConfigError
from roselora.models.architecture import block_at, block_names, mlp_output


@dataclass(frozen=True)
class BlockConfig(BoundedSettings):
    """Which block of a model is edited.

    Attributes:
        depth: the block's relative depth, 0 the first and 1 the last.
        layer: the block's index, which overrides ``depth``.

    Raises:
        ConfigError: ``depth`` is not within 0 and 1, or ``layer`` is negative.
    """

    depth: float = number(21 / 31, least=0, most=1)
    layer: int | None = whole(None)

    def block(self, model: PreTrainedModel) -> int:
        """The block's index."""
        return block_at(model, self.depth) if self.layer is None else self.layer


@dataclass(frozen=True)
class LayerConfig(BlockConfig):
    """Which layer of a model is edited.

    Attributes:
        module: the layer's name within the block, such as "mlp.up_proj"; None for the one that writes the MLP's output.
    """

    module: str | None = None


def edited_layer(model: PreTrainedModel, config: LayerConfig) -> tuple[str, nn.Module]:
    """The name and the module of the layer that is edited, one with a matrix for a weight.

    Raises:
        ConfigError: the model has no such block, or the block no such layer.
        UnsupportedError: the block has no single layer that writes its MLP's output.
    """
    block = config.block(model)
    if config.module is None:
        name = mlp_output(model, block)
        return name, model.get_submodule(name)
    names = block_names(model)
    if block >= len(names):
        raise ConfigError(f"There is no layer {block}: the model has the layers 0 to {len(names) - 1}.")
    name = f"{names[block]}.{config.module}"
    module = dict(model.named_modules()).get(name)
    weight = getattr(module, "weight", None)
    if module is None or weight is None or weight.ndim != 2:
        raise ConfigError(f"The model has no layer {name} with a matrix for a weight; name another module.")
    return name, module
