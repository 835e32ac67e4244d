"""Which layer of a model a method edits: by its share of the depth, so that no model needs a file of its own."""

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from roselora.errors import ConfigError
from roselora.models.architecture import block_at, blocks, mlp_output


@dataclass(frozen=True)
class Place:
    """One layer of a model.

    Attributes:
        depth: the block's share of the model's depth, 0 the first and 1 the last.
        layer: the block's index, which goes before ``depth``.
        module: the layer's name within the block, such as "mlp.up_proj"; None for the one that writes the MLP's output.

    Raises:
        ConfigError: ``depth`` is not within 0 and 1, or ``layer`` is negative.
    """

    depth: float = 21 / 31
    layer: int | None = None
    module: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.depth <= 1:
            raise ConfigError(f"depth must be within 0 and 1, not {self.depth}.")
        if self.layer is not None and self.layer < 0:
            raise ConfigError(f"layer must be at least 0, not {self.layer}.")


def edited_block(model: PreTrainedModel, place: Place) -> int:
    """The index of the block at a place."""
    return block_at(model, place.depth) if place.layer is None else place.layer


def edited_module(model: PreTrainedModel, place: Place) -> tuple[str, nn.Module]:
    """The name and the module of the layer at a place: one with a matrix for a weight.

    Raises:
        ConfigError: the model has no such block, or the block no such layer.
        UnsupportedError: the block has no single layer that writes its MLP's output.
    """
    block = edited_block(model, place)
    if place.module is None:
        name = mlp_output(model, block)
        return name, model.get_submodule(name)
    names = blocks(model)
    if block >= len(names):
        raise ConfigError(f"There is no layer {block}: the model has the layers 0 to {len(names) - 1}.")
    name = f"{names[block]}.{place.module}"
    module = dict(model.named_modules()).get(name)
    weight = getattr(module, "weight", None)
    if module is None or weight is None or weight.ndim != 2:
        raise ConfigError(f"The model has no layer {name} with a matrix for a weight; name another module.")
    return name, module
