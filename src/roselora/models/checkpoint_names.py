"""Weights under the names that a model's checkpoint has them by, where transformers loads them under others."""

from collections.abc import Collection, Mapping

from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from roselora.errors import UnsupportedError


def in_checkpoint(
    model: PreTrainedModel, weights: Mapping[str, Tensor], stored: Collection[str] = ()
) -> dict[str, Tensor]:
    """Some of a model's weights as its checkpoint names and splits them.

    Args:
        model: the model.
        weights: some of its weights, by its own names.
        stored: the names in the checkpoint's files, if they are known. Some checkpoints, such as GPT-2's, leave out the
            first part of the model's names, which transformers finds when it loads them.

    Raises:
        UnsupportedError: the checkpoint keeps a weight joined with others, which are not among the given ones.

    >>> from roselora import load
    >>> model = load("model").model  # a folder with a small language model
    >>> list(in_checkpoint(model, {"model.norm.weight": model.get_parameter("model.norm.weight")}))
    ['model.norm.weight']
    """
    found: dict[str, Tensor] = revert_weight_conversion(model, dict(weights))
    # Without data it costs nothing to see what all of the weights become.
    shapes = revert_weight_conversion(model, {name: each.to("meta") for name, each in model.state_dict().items()})
    for name, weight in found.items():
        if name not in shapes or shapes[name].shape != weight.shape:
            raise UnsupportedError(
                f"{min(weights)} is stored as a part of {name}, so it cannot be written by itself; export the model."
            )
    prefix = f"{model.base_model_prefix}."

    def as_stored(name: str) -> str:
        return next((each for each in (name, name.removeprefix(prefix), prefix + name) if each in stored), name)

    return {as_stored(name): weight for name, weight in found.items()}
