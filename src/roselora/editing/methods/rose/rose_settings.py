"""How a RoseLoRA edit is trained."""

from dataclasses import dataclass

from roselora.editing.methods.neuron_settings import NeuronSettings
from roselora.editing.methods.setting_bounds import number, whole
from roselora.editing.request import texts
from roselora.errors import ConfigError


@dataclass(frozen=True)
class EditSettings(NeuronSettings):
    """How an edit by RoseLoRA's factors (``--method rose``) is trained; what is not named here is in `NeuronSettings`.

    Attributes:
        density: the fraction of each row of A and column of B that is kept.
        warmup: dense steps; ``ramp``: steps in which the density falls; training never stops before both are over.
        target_modules: names of the adapted modules, in all blocks, instead of the layers of one MLP. They are trained
            as in the paper, from random factors, and ``learning_rate`` is Adam's own. All that follows is for these
            modules alone, and ``depth``, ``lowest_depth``, ``ridge``, ``threshold`` and ``full`` are not.
        rank: r of each adapted matrix.
        alpha: the scale of the update is alpha / rank.
        dropout: LoRA dropout.
        clamp: bound on every entry of A and B (the paper's norm constraint), or None.
        keep_weight: weight in the loss of the KL divergence from the base on texts that must not change.
        seed: of A's initial values and of the choice of texts.

    Raises:
        ConfigError: a value is out of its range, or ``max_steps`` is too few for the density to be reached.

    Example:
        >>> EditSettings(density=0.1, max_steps=100).first_stop
        12
    """

    learning_rate: float = number(0.1, above=0)
    density: float = number(0.25, above=0, most=1)
    warmup: int = whole(3)
    ramp: int = whole(9)
    target_modules: tuple[str, ...] | None = None
    rank: int = whole(8, least=1)
    alpha: float = number(16.0, above=0)
    dropout: float = number(0.0, least=0, most=1)
    clamp: float | None = number(None, above=0)
    keep_weight: float = number(3.0, least=0)
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
