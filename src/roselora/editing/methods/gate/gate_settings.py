"""How a gated neuron edit is trained."""

from dataclasses import dataclass

from roselora.editing.methods.setting_bounds import require_number, require_whole
from roselora.errors import ConfigError


@dataclass(frozen=True)
class GateSettings:
    """How a gated neuron edit is trained; lengths are in units of the hidden states' root mean square.

    Attributes:
        depth: where in the model the neurons are: 0 is the first block, 1 the last.
        lowest_depth, highest_depth: between which the blocks are that are filled when edits are many.
        ridge: of the regression that finds a gate, in units of the inputs' mean square.
        quantile: the share of each group of contrasts that stays below the threshold had it not been fitted.
        lowest, highest: limits of the threshold; the edit's own prompts score 1.
        learning_rate: of Adam on what the neurons write.
        min_steps, max_steps: optimizer steps before which training never stops, and after which the edit has failed.
        margin: by how many nats the target's every token must lead its runner-up before training stops.
        activity: the least share of their activity at which the neurons are trained, so that prompts that wake them
            less get the answer too.
        seed: without effect here; every method's config has one.
    """

    depth: float = 0.86
    lowest_depth: float = 0.65
    highest_depth: float = 0.93
    ridge: float = 1.0
    quantile: float = 0.95
    lowest: float = 0.2
    highest: float = 0.7
    learning_rate: float = 0.05
    min_steps: int = 3
    max_steps: int = 60
    margin: float = 1.0
    activity: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        require_number(self, "depth", "lowest_depth", "highest_depth", "quantile", "lowest", "highest", least=0, most=1)
        require_number(self, "ridge", "learning_rate", above=0)
        require_number(self, "activity", above=0, most=1)
        require_number(self, "margin")
        require_whole(self, "min_steps", "max_steps", "seed", least=0)
        if not self.lowest_depth <= self.depth <= self.highest_depth:
            raise ConfigError(
                f"depth ({self.depth}) must be between lowest_depth ({self.lowest_depth}) and highest_depth "
                f"({self.highest_depth})."
            )
        if not 0 <= self.lowest <= self.highest < 1:
            raise ConfigError(
                f"lowest ({self.lowest}) and highest ({self.highest}) must be in order and within [0, 1)."
            )
        if not 1 <= self.min_steps <= self.max_steps:
            raise ConfigError(
                f"min_steps ({self.min_steps}) must be at least 1 and at most max_steps ({self.max_steps})."
            )

    @property
    def first_stop(self) -> int:
        """The first step after which training may stop."""
        return self.min_steps
