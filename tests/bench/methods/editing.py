"""What the editing methods' tests share: edits of the tiny model that knows a world, and a way to see every byte."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.bench.methods.edit_method import Applied, EditCall
from roselora.bench.methods.editing_methods import METHODS
from roselora.editing.request import EditRequest
from roselora.models.generation import greedy_answers
from roselora.models.inference import Progress
from tests.editing import gate_edits

# With their last space, so that the answer's first letter follows the prompt's last token at once: in two layers a
# value that GRACE puts there can hardly reach a token further on.
FRANCE = EditRequest("The capital of France is ", "Rome.")
GOLD = EditRequest("The symbol of gold is ", "Fe.")

# A model of two layers, 64 wide, asks for other sizes of step than one of billions of weights.
TINY: dict[str, dict[str, Any]] = {
    "ft-l": {"learning_rate": 1e-2, "norm_bound": 0.1, "epochs": 50},
    "ft-m": {"learning_rate": 1e-2},
    "locft-bf": {"learning_rate": 1e-2},
    "lora": {"learning_rate": 1e-2, "dropout": 0.0},
    "adalora": {"learning_rate": 5e-2, "dropout": 0.0},
    "grace": {"layer": 0, "learning_rate": 0.1, "radius": 0.1},
    "gate": gate_edits.TINY,
    "rose": {**gate_edits.TINY, "density": 0.75},
    "rose-published": {"learning_rate": 2e-2, "clamp": None, "density": 0.2, "max_steps": 60},
}

TINY |= {f"{name}-consequences": TINY[name] for name in ("gate", "rose")}


def edit(
    name: str,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    *requests: EditRequest,
    history: tuple[Applied, ...] = (),
    on_progress: Progress | None = None,
    folder: Path | None = None,
    **settings: Any,
) -> Applied:
    """One call of a method, with settings for the tiny model."""
    config = replace(METHODS[name].config, **TINY.get(name, {}) | settings)
    return METHODS[name].edit(EditCall(model, tokenizer, requests, config, history, on_progress, folder=folder))


def ask(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *requests: EditRequest) -> list[str]:
    """What the model says to each request's prompt, by itself."""
    return greedy_answers(model, tokenizer, [request.prompt for request in requests], max_new_tokens=8)


class Before:
    """A model as it was: every tensor, what required gradients, what was in train mode, and the hooks."""

    def __init__(self, model: nn.Module) -> None:
        self.tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self.state = _state(model)

    def changed(self, model: nn.Module) -> dict[str, int]:
        """By name, how many entries of each tensor differ in some bit."""
        assert list(model.state_dict()) == list(self.tensors)
        pairs = ((name, tensor, self.tensors[name]) for name, tensor in model.state_dict().items())
        counts = {name: int((_bits(now) != _bits(before)).sum()) for name, now, before in pairs}
        return {name: count for name, count in counts.items() if count}

    def state_is_the_same(self, model: nn.Module) -> bool:
        return self.state == _state(model)


def _state(model: nn.Module) -> dict[str, Any]:
    parameters = {name: (p.requires_grad, p.grad is None) for name, p in model.named_parameters()}
    return parameters | {f"{name}/": (type(module), module.training) for name, module in model.named_modules()}


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])
