"""RoseLoraConfig: a LoraConfig that also says how sparse the adapter becomes, and how fast, during training."""

from collections.abc import Mapping
from typing import Any

from roselora.adapter.hooks import install
from roselora.adapter.sparsity_config import SparsityConfig


class RoseLoraConfig(SparsityConfig):
    """LoRA whose every row of A and every column of B keeps only its most important entries.

    Takes every field of :class:`peft.LoraConfig`, and:

    Args:
        density: the fraction of each row of A and column of B that is kept at the end, in (0, 1]; the paper's tau.
        importance_beta: how much of the old average each step keeps (Eq. 4), in [0, 1).
        warmup: how long training stays dense: steps if an int, a fraction of all steps if a float.
        ramp: how long the density then falls, by a cubic, to its target; steps or a fraction likewise.
        total_steps: the number of optimizer steps. A ``Trainer`` sets it by itself; a plain loop must give it.
        clamp: if given, A and B are clamped to [-clamp, clamp] after each step.

    Raises:
        ConfigError: a value that cannot work.
        UnsupportedError: an option of LoraConfig under which the update would not be sparse.

    Example:
        >>> import torch
        >>> from peft import get_peft_model
        >>> from roselora import RoseLoraConfig
        >>> base = torch.nn.Sequential(torch.nn.Linear(20, 10))
        >>> config = RoseLoraConfig(r=2, density=0.2, warmup=1, ramp=2, total_steps=4, target_modules=["0"])
        >>> model = get_peft_model(base, config)
        >>> optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
        >>> for _ in range(4):
        ...     model(torch.ones(1, 20)).sum().backward()
        ...     optimizer.step()  # which also prunes
        ...     optimizer.zero_grad()
        >>> model.base_model.model[0].lora_A["default"].weight.count_nonzero(dim=1)  # 0.2 of each row of 20
        tensor([4, 4])
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        install()

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        # Unpickling, as in a spawned worker, does not run __post_init__; without the hooks training would stay dense.
        self.__dict__.update(state)
        install()
