"""LoReFT (arXiv 2404.03592): changes no weight, but the hidden states of a prompt's first and last tokens.

Its own library, pyreft, pins an older transformers than ours, so this is written from the paper's Equation 2.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from transformers import PreTrainedModel

from roselora.errors import ConfigError, ModelError, reason_of
from roselora.models.architecture import block_names
from roselora.training.nonfinite import require_finite

WEIGHTS, CONFIG = "loreft.safetensors", "loreft.json"
NAME = "loreft"
"""The name of the submodule with the interventions."""
IGNORED = -100
"""The label of a token that is not learned."""


@dataclass(frozen=True)
class LoReftConfig:
    """Where LoReFT intervenes, and in how many dimensions.

    Attributes:
        rank: r, the dimension of the subspace in which a hidden state is changed.
        first, last: the number of tokens at a prompt's beginning and end; in a short prompt at most one half each.
        layers: the numbers of the blocks whose output is changed; None for all.
        shared: whether a layer has one intervention for first and last tokens, or one for each.
    """

    rank: int
    first: int
    last: int
    layers: tuple[int, ...] | None = None
    shared: bool = True


class Intervention(nn.Module):
    """Equation 2: h + Rᵀ(W h + b - R h), where the rows of R are orthonormal."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        rotation = nn.Linear(width, rank, bias=False)
        nn.init.orthogonal_(rotation.weight)
        self.rotation = parametrizations.orthogonal(rotation)
        self.source = nn.Linear(width, rank)

    def forward(self, states: Tensor) -> Tensor:
        """Change states of shape (n, width); it computes in float32, and returns the dtype of the states."""
        exact = states.float()
        rotation = cast(Tensor, self.rotation.weight)
        change: Tensor = (self.source(exact) - exact @ rotation.T) @ rotation
        return (exact + change).to(states.dtype)


class Interventions(nn.Module):
    """All interventions of a model, and the positions in the current batch at which they apply."""

    def __init__(self, config: LoReftConfig, layers: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.config = config
        count = 1 if config.shared else 2
        self.layers = nn.ModuleDict(
            {str(layer): nn.ModuleList(Intervention(width, config.rank) for _ in range(count)) for layer in layers}
        )
        self.parts: tuple[Tensor, ...] = ()

    def find_positions(self, arguments: Mapping[str, Any]) -> None:
        """Find the positions of a forward pass from its arguments; none if it continues a cache after the prompt."""
        cache = arguments.get("past_key_values")
        tokens = arguments.get("input_ids")
        if tokens is None:
            tokens = arguments["inputs_embeds"][..., 0]
        if cache is not None and cache.get_seq_length():
            self.parts = ()
            return
        mask = arguments.get("attention_mask")
        prompt = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask.bool()
        labels = arguments.get("labels")
        if labels is not None and labels.ndim == 2:
            prompt = prompt & ((labels != IGNORED).cumsum(1) == 0)
        first, last = prompt_ends(prompt, self.config.first, self.config.last)
        self.parts = (first | last,) if self.config.shared else (first, last)

    def apply_to(self, layer: int, states: Tensor) -> Tensor:
        """Change a block's output of shape (batch, tokens, width) at the positions found."""
        interventions: Any = self.layers[str(layer)]
        for part, intervention in zip(self.parts, interventions, strict=False):
            states = states.clone()
            states[part] = intervention(states[part])
        return states


def prompt_ends(prompt: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Two masks, of the first and the last tokens of each row's prompt.

    Args:
        prompt: which tokens belong to the prompt, of shape (batch, tokens); padding may be on either side.

    >>> prompt_ends(torch.tensor([[False, True, True, True, True, True]]), first=2, last=1)
    (tensor([[False,  True,  True, False, False, False]]), tensor([[False, False, False, False, False,  True]]))
    """
    # (batch, tokens): the number of a token within its prompt, from 1; (batch, 1): the prompt's length.
    number, length = prompt.cumsum(1), prompt.sum(1, keepdim=True)
    half = length // 2
    return prompt & (number <= half.clamp(max=first)), prompt & (number > length - half.clamp(max=last))


def add_loreft(model: PreTrainedModel, config: LoReftConfig) -> PreTrainedModel:
    """Freeze the model's body and add interventions to train; a new classifier's head stays trainable.

    Raises:
        ConfigError: a layer does not exist, or nothing would be changed.
        UnsupportedError: the model has no list of blocks.
    """
    names = block_names(model)
    layers = tuple(range(len(names))) if config.layers is None else config.layers
    for layer in layers:
        if not 0 <= layer < len(names):
            raise ConfigError(f"There is no layer {layer}: the model has the layers 0 to {len(names) - 1}.")
    if not layers or max(config.first, config.last) < 1 or min(config.first, config.last) < 0:
        raise ConfigError("LoReFT needs at least one layer and one position of the prompt to change.")
    width = model.config.hidden_size
    if not 1 <= config.rank <= width:
        raise ConfigError(f"LoReFT changes a subspace of 1 to {width} dimensions of this model, not {config.rank}.")
    interventions = Interventions(config, layers, width)
    model.base_model.requires_grad_(False)
    if getattr(model, "get_output_embeddings", lambda: None)() is not None:
        model.requires_grad_(False)  # a language model's head is not new
    interventions.to(model.device)
    model.add_module(NAME, interventions)
    # The Trainer's checkpoints leave these keys out: they need no frozen weights.
    model._keys_to_ignore_on_save = set(model.state_dict()) - set(_trained(model))
    model.register_forward_pre_hook(
        lambda _, positional, named: interventions.find_positions(_named(positional, named)), with_kwargs=True
    )
    for layer in layers:
        model.get_submodule(names[layer]).register_forward_hook(
            lambda _, __, output, layer=layer: _replaced(output, interventions, layer)
        )
    return model


def save_loreft(model: PreTrainedModel, folder: Path) -> None:
    """Write the trained parameters and the configuration into a folder."""
    interventions: Any = model.get_submodule(NAME)
    folder.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in _trained(model).items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(asdict(interventions.config), indent=2) + "\n")


def load_loreft(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Add the interventions, and the classifier's head if there is one, that :func:`save_loreft` wrote.

    Raises:
        ModelError: the files are missing or damaged, or belong to another model.
        NonFiniteError: they hold NaN or infinity.
    """
    try:
        config = TypeAdapter(LoReftConfig).validate_json((folder / CONFIG).read_bytes(), strict=True)
        saved = load_file(folder / WEIGHTS)
        require_finite(saved.items(), f"in {folder / WEIGHTS}; train it anew")
        add_loreft(model, config)
        if saved.keys() != _trained(model).keys():
            raise ValueError("other parameters than this model's")
        model.load_state_dict(saved, strict=False)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder} holds no LoReFT of this model ({reason_of(error)}).") from error
    model.train(False)
    return model


def _trained(model: PreTrainedModel) -> dict[str, Tensor]:
    """The trained parameters, and the buffers of the interventions, by name."""
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {
        name: tensor for name, tensor in model.state_dict().items() if name in trained or name.startswith(f"{NAME}.")
    }


def _named(positional: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    return {**({"input_ids": positional[0]} if positional else {}), **named}


def _replaced(output: Any, interventions: Interventions, layer: int) -> Any:
    """The output of a block, which is its hidden states or a tuple that begins with them."""
    if isinstance(output, tuple):
        return (interventions.apply_to(layer, output[0]), *output[1:])
    return interventions.apply_to(layer, output)
