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
        learning_rate: of Adam. In the layer at ``depth`` it says how far one step of B moves the layer's output at the
            edit's tokens, in units of the hidden states' root mean square; in ``target_modules`` it is Adam's own.
        margin: by how many nats every token of the target must lead its runner-up before training stops.
        keep_weight: weight in the loss of the KL divergence from the base on texts that must not change.
        keep_texts: how many texts of each kind that must not change each step looks at, beside all keep-prompts.
        dropout: LoRA dropout.
        clamp: bound on every entry of A and B (the paper's norm constraint), or None.
        depth: where in the model the adapted layer is: 0 is the first block, 1 the last.
        target_modules: names of the adapted modules, in all blocks, instead of the one layer at ``depth``. They are
            trained as in the paper, from random factors, and on the request's prompts alone.
        seed: of A's initial values and of the choice of texts.

    Raises:
        ConfigError: a value is out of its range, or ``max_steps`` is too few for the density to be reached.

    Example:
        >>> EditSettings(rank=4, max_steps=100).first_stop
        12
    """

    rank: int = whole(16, least=1)
    alpha: float = number(16.0, above=0)
    density: float = number(0.25, above=0, most=1)
    warmup: int = whole(3)
    ramp: int = whole(9)
    max_steps: int = whole(60)
    learning_rate: float = number(0.1, above=0)
    margin: float = number(1.0)
    keep_weight: float = number(3.0, least=0)
    keep_texts: int = whole(4)
    dropout: float = number(0.0, least=0, most=1)
    clamp: float | None = number(None, above=0)
    depth: float = number(0.6, least=0, most=1)
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
