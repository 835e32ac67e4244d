"""What a model's own modules say about where to adapt it."""

from torch import nn

EDIT_TARGETS = ("v_proj", "down_proj")
"""Where a transformer block's attention reads its values and where its MLP writes: Llama, Qwen, Gemma, Mistral."""


def edit_targets(model: nn.Module) -> str | list[str]:
    """The modules that an edit adapts, as PEFT's ``target_modules``: by name where known, else every linear layer."""
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return list(EDIT_TARGETS) if names.issuperset(EDIT_TARGETS) else "all-linear"
