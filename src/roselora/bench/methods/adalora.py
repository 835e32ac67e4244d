"""AdaLoRA: low-rank updates that divide a budget of ranks among the matrices."""

from dataclasses import dataclass
from typing import Any

import torch
from peft import AdaLoraConfig, PeftModel
from torch import Tensor

from roselora.bench.methods.adapter_tuning import AdapterConfig, tune_adapter
from roselora.bench.methods.edit_method import Applied, EditCall, Method
from roselora.editing.methods.setting_bounds import number
from roselora.errors import ConfigError


@dataclass(frozen=True)
class AdaLoraEditConfig(AdapterConfig):
    """Settings of AdaLoRA; see `AdapterConfig`. The first rank and the penalty's weight are peft's own defaults.

    Attributes:
        first_rank: r of each matrix before the budget falls to ``rank`` on average.
        warmup: the share of all steps in which the budget stays at its first value; ``last``: the share after it has
            reached its last, which is also when training may stop early. Both are ours.
        orthogonality: weight of the penalty on P and Q.
    """

    first_rank: int = 12
    warmup: float = number(0.1, least=0)
    last: float = number(0.5, least=0)
    orthogonality: float = number(0.5, least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_rank < self.rank:
            raise ConfigError(f"first_rank ({self.first_rank}) must not be below rank ({self.rank}).")
        if self.warmup + self.last >= 1:
            raise ConfigError(f"warmup ({self.warmup}) and last ({self.last}) must be shares whose sum is below 1.")


def adalora(call: EditCall[AdaLoraEditConfig]) -> Applied:
    """Train W + P diag(E) Q on all requests together, by peft, its ranks allotted by importance, and keep the sum.

    After each step the singular values E of least importance are set to 0, down to the step's budget; the loss has
    the penalty |P'P - I| + |QQ' - I|. (Zhang et al., 2023, arXiv 2303.10512.)
    """
    config = call.config
    steps = config.steps(len(call.requests))
    last = int(config.last * steps)
    warmup = int(config.warmup * steps)
    if last < 1 or warmup >= steps - last:
        raise ConfigError(f"{steps} steps are too few for a budget to fall and for its last share; allow more epochs.")
    adapter = AdaLoraConfig(
        init_r=config.first_rank,
        target_r=config.rank,
        tinit=warmup,
        tfinal=last,
        total_step=steps,
        orth_reg_weight=config.orthogonality,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.targets(call.model),
    )

    def allocate(adapted: PeftModel, step: int) -> None:
        allocator: Any = adapted.base_model
        allocator.update_and_allocate(step)

    return tune_adapter(
        call,
        adapter,
        after_step=allocate,
        penalty=lambda adapted: config.orthogonality * _orthogonality(adapted),
        first_stop=steps - last + 1,
    )


def _orthogonality(adapted: PeftModel) -> Tensor:
    """The mean Frobenius norm of P'P - I and QQ' - I, as peft's own forward adds it where it makes the loss."""
    norms = []
    for name, factor in adapted.named_parameters():
        if ".lora_A." in name or ".lora_B." in name:
            gram = factor @ factor.T if ".lora_A." in name else factor.T @ factor
            norms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device)))
    return torch.stack(norms).mean()


METHOD = Method("adalora", adalora, AdaLoraEditConfig(), "Zhang et al., 2023, arXiv 2303.10512")
