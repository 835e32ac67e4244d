"""Weights under the names that a model's checkpoint has them by, where transformers loads them under others."""

from collections.abc import Collection, Iterable, Iterator

from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from roselora.errors import UnsupportedError


def in_checkpoint(
    model: PreTrainedModel, changed: Iterable[tuple[str, Tensor, Tensor]], stored: Collection[str] = ()
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Changed weights of a model as its checkpoint names and splits them, one of the model's at a time.

    Args:
        model: the model.
        changed: the model's own name of each weight, and the weight before and after.
        stored: the names in the checkpoint's files, if they are known. Some checkpoints, such as GPT-2's, leave out the
            first part of the model's names, which transformers finds when it loads them.

    Raises:
        UnsupportedError: the checkpoint keeps a weight joined with others, so it cannot be written by itself.

    >>> from roselora import load
    >>> model = load("model").model  # a folder with a small language model
    >>> weight = model.get_parameter("model.norm.weight")
    >>> [name for name, _, _ in in_checkpoint(model, [("model.norm.weight", weight, weight + 1)])]
    ['model.norm.weight']
    """
    # Without data it costs nothing to see what all of the weights become.
    whole = revert_weight_conversion(model, {name: weight.to("meta") for name, weight in model.state_dict().items()})
    prefix = f"{model.base_model_prefix}."
    for name, *both in changed:
        before, after = (revert_weight_conversion(model, {name: weight}) for weight in both)
        for found, weight in after.items():
            if found not in whole or whole[found].shape != weight.shape:
                raise UnsupportedError(
                    f"{name} is stored as a part of {found}, so it cannot be written by itself; export the model."
                )
            candidates = (found, found.removeprefix(prefix), prefix + found)
            yield next((each for each in candidates if each in stored), found), before[found], weight
