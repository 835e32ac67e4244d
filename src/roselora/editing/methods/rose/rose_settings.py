"""How a RoseLoRA edit is trained."""

from dataclasses import dataclass

from roselora.editing.methods.setting_bounds import BoundedSettings, number, whole
from roselora.editing.request import texts
from roselora.errors import ConfigError


@dataclass(frozen=True)
class EditSettings(BoundedSettings):
    """How an edit by RoseLoRA's factors (``--method rose``) is trained.

    Attributes:
        rank: r of each adapted matrix.
        alpha: the scale of the update is alpha / rank.
        density: the fraction of each row of A and column of B that is kept.
        warmup: dense steps; ``ramp``: steps in which the density falls; training never stops before both are over.
        max_steps: optimizer steps after which the edit has failed.
        learning_rate: of Adam.
        margin: by how many nats every token of the target must lead its runner-up before training stops.
        keep_weight: weight in the loss of the KL divergence from the base on texts that must not change.
        keep_texts: how many neutral texts, and as many previous edits, each step looks at beside all keep-prompts.
        dropout: LoRA dropout.
        clamp: bound on every entry of A and B (the paper's norm constraint), or None.
        target_modules: names of the adapted modules, or None to choose them by the model's structure.
        seed: of A's initial values and of the choice of neutral texts.

    Raises:
        ConfigError: a value is out of its range, or ``max_steps`` is too few for the density to be reached.

    Example:
        >>> EditSettings(rank=4, max_steps=100).first_stop
        15
    """

    rank: int = whole(8, least=1)
    alpha: float = number(16.0, above=0)
    density: float = number(0.05, above=0, most=1)
    warmup: int = whole(3)
    ramp: int = whole(12)
    max_steps: int = whole(60)
    learning_rate: float = number(4e-3, above=0)
    margin: float = number(1.0)
    keep_weight: float = number(5.0, least=0)
    keep_texts: int = whole(4)
    dropout: float = number(0.0, least=0, most=1)
    clamp: float | None = number(None, above=0)
    target_modules: tuple[str, ...] | None = None
    seed: int = whole(0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target_modules is not None:
            object.__setattr__(self, "target_modules", texts("target_modules", self.target_modules))
        if self.max_steps < self.first_stop:
            raise ConfigError(
                f"max_steps ({self.max_steps}) must not be below warmup + ramp ({self.first_stop}): only then is the "
                "update as sparse as asked."
            )

    @property
    def first_stop(self) -> int:
        """The first step after which training may stop: from then on the update has its density."""
        return self.warmup + self.ramp
