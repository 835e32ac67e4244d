"""GRACE: a codebook beside one layer, and no weight changed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from roselora.bench.methods.answer_training import TrainingConfig, train_answers
from roselora.bench.methods.edit_method import Applied, EditCall, Method
from roselora.bench.methods.edited_layer import LayerConfig, edited_layer
from roselora.bench.methods.grace_codebook import Codebook, Lookup, installed
from roselora.editing.methods.setting_bounds import number, whole
from roselora.editing.methods.token_batches import IGNORED, LabelledRow, answer_rows
from roselora.models.activation_hooks import activations
from roselora.models.inference import counted, eval_mode
from roselora.models.mlp_neurons import weight_matrix
from roselora.models.padding import padded_inputs


@dataclass(frozen=True)
class GraceConfig(TrainingConfig, LayerConfig):
    """Settings of GRACE, which trains a value for each prompt by itself; see `TrainingConfig` and `LayerConfig`.

    The first radius 1, the 100 steps of Adam at rate 1, and the random first value are the published code's; layer
    27 of 32 is EasyEdit's for LLaMA-2-7B.

    Attributes:
        radius: an entry's first radius, in units of the layer's input.
    """

    depth: float = number(27 / 31, least=0, most=1)
    learning_rate: float = number(1.0, above=0)
    epochs: int = whole(100, least=1)
    radius: float = number(1.0, above=0)


def grace(call: EditCall[GraceConfig]) -> Applied:
    """Store each edit as a key, a radius and a value; an input within a radius gives that value as the layer's output.

    The key is the layer's input at the prompt's last token, and the value is trained by gradient descent until the
    model answers the target. How entries grow and split: `Codebook.admit`. Which positions look it up: `Lookup`.
    The codebook starts as ``history[-1].memory``, whether or not its lookup is still on the model.
    (Hartvigsen et al., 2023, "Aging with GRACE", arXiv 2211.11031, Algorithm 1.)

    Raises:
        ConfigError: the model does not have the layer, or the memory is of another layer.
        NonFiniteError: the loss diverged; the model is as it was.
    """
    model, config = call.model, call.config
    rows = [answer_rows(call.tokenizer, request) for request in call.requests]  # refused before any is trained
    name, module = edited_layer(model, config)
    device = module.get_parameter("weight").device
    d_out, d_in = weight_matrix(module).shape
    book = Codebook.from_memory(call.history[-1].memory, d_in, d_out) if call.history else Codebook.empty(d_in, d_out)
    lookup, undo = _install(module, book.to(device))
    steps = 0
    random = torch.Generator().manual_seed(config.seed)
    try:
        with eval_mode(model):
            for own in counted(rows, call.on_progress):
                for row in own:
                    first_value = torch.rand(d_out, generator=random).to(device)
                    steps += _edit(model, name, lookup, row, first_value, config)
    except BaseException:
        undo()
        raise
    return Applied(tuple(call.requests), undo, entries=0, steps=steps, memory=lookup.codebook.memory())


def reinstall(model: PreTrainedModel, config: GraceConfig, memory: Mapping[str, Tensor]) -> Callable[[], None]:
    """Put a call's codebook on the model, as after a restart, and return the function that takes it off.

    Raises:
        ConfigError: it is of another layer.
    """
    module = edited_layer(model, config)[1]
    d_out, d_in = weight_matrix(module).shape
    book = Codebook.from_memory(memory, d_in, d_out)
    return _install(module, book.to(module.get_parameter("weight").device))[1]


def _edit(
    model: PreTrainedModel, name: str, lookup: Lookup, row: LabelledRow, first_value: Tensor, config: GraceConfig
) -> int:
    """Admit one prompt's key, and train the value of the entry that serves it; returns the steps taken."""
    answer = torch.tensor([label for label in row.labels if label != IGNORED], device=first_value.device)
    last = next(at for at, label in enumerate(row.labels) if label != IGNORED)  # the prompt's last token
    key = _last_input(model, name, row.ids[: last + 1])
    lookup.codebook, index = lookup.codebook.admit(key, first_value, answer, config.radius)
    value = nn.Parameter(lookup.codebook.values[index].clone())
    lookup.trained = (index, value)
    try:
        steps = train_answers(model, [value], [[row]], config, first_block=config.block(model))
    finally:
        lookup.trained = None
    lookup.codebook = lookup.codebook.with_value(index, value.detach())
    return steps


def _last_input(model: PreTrainedModel, name: str, prompt: list[int]) -> Tensor:
    """The layer's input (d_in,) at the last token of a prompt."""
    inputs = {key: tensor.to(model.device) for key, tensor in padded_inputs([prompt]).items()}
    return activations(model, inputs, [name])[name].input[0, -1]


def _install(module: nn.Module, book: Codebook) -> tuple[Lookup, Callable[[], None]]:
    """Put a codebook on a layer, in place of one that is there; returns its lookup and what undoes it."""
    lookup = installed(module)
    if lookup is None:
        lookup = Lookup(book)
        return lookup, module.register_forward_hook(lookup).remove
    before = lookup.codebook
    lookup.codebook = book

    def undo() -> None:
        lookup.codebook = before

    return lookup, undo


METHOD = Method("grace", grace, GraceConfig(), "Hartvigsen et al., 2022, arXiv 2211.11031", reinstall=reinstall)
