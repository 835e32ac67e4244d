"""How an edit is trained."""

from dataclasses import dataclass

from roselora.editing.methods.setting_bounds import require_number, require_whole
from roselora.editing.request import texts
from roselora.errors import ConfigError


@dataclass(frozen=True)
class EditSettings:
    """How an edit is trained.

    Attributes:
        rank: r of each adapted matrix.
        alpha: the scale of the update is alpha / rank.
        density: the fraction of each row of A and column of B that is kept.
        warmup: dense steps; ``ramp``: steps in which the density falls; training never stops before both are over.
        max_steps: optimizer steps after which the edit has failed.
        learning_rate: of Adam.
        margin: by how many nats the target's every token must lead its runner-up before training stops.
        keep_weight: weight in the loss of the KL divergence from the base on texts that must not move.
        retention: how much of that divergence's sensitivity is subtracted from the edit's when entries are chosen.
        keep_texts: how many neutral texts, and as many earlier edits, each step looks at beside all keep-prompts.
        dropout: LoRA dropout.
        clamp: bound on every entry of A and B (the paper's norm constraint), or None.
        target_modules: names of the adapted modules, or None to choose them by the model's structure.
        seed: of A's initial values and of the choice of neutral texts.

    Example:
        >>> from roselora import EditSettings
        >>> EditSettings(rank=4, density=0.1).first_stop  # training stops after the ramp at the earliest
        15
    """

    rank: int = 8
    alpha: float = 16
    density: float = 0.05
    warmup: int = 3
    ramp: int = 12
    max_steps: int = 60
    learning_rate: float = 4e-3
    margin: float = 1.0
    keep_weight: float = 5.0
    retention: float = 0.0
    keep_texts: int = 4
    dropout: float = 0.0
    clamp: float | None = None
    target_modules: tuple[str, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_whole(self, "rank", least=1)
        require_whole(self, "warmup", "ramp", "max_steps", "keep_texts", "seed", least=0)
        require_number(self, "density", above=0, most=1)
        require_number(self, "alpha", "learning_rate", above=0)
        require_number(self, "keep_weight", "retention", least=0)
        require_number(self, "dropout", least=0, most=1)
        require_number(self, "margin")
        if self.clamp is not None:
            require_number(self, "clamp", above=0)
        if self.target_modules is not None:
            object.__setattr__(self, "target_modules", texts("target_modules", self.target_modules))
        if self.max_steps < self.warmup + self.ramp:
            raise ConfigError(
                f"max_steps ({self.max_steps}) must not be below warmup + ramp ({self.warmup + self.ramp}): only "
                "then is the update as sparse as asked."
            )

    @property
    def first_stop(self) -> int:
        """The first step after which training may stop: the update is as sparse as asked then."""
        return self.warmup + self.ramp
