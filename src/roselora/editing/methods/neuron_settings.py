"""The settings that both methods share, because both edit neurons of a late MLP."""

from dataclasses import dataclass

from roselora.editing.methods.setting_bounds import BoundedSettings, number, whole
from roselora.errors import ConfigError


@dataclass(frozen=True)
class NeuronSettings(BoundedSettings):
    """How an edit of a few neurons is made.

    Attributes:
        depth: where in the model the edited MLP is: 0 is the first block, 1 the last.
        lowest_depth: of the lowest block that is edited when the blocks above it hold many edits already.
        ridge: penalty of the regression that fits a gate, in units of the MLP inputs' mean square.
        threshold: the score at which a gate begins to open; what shares only the subject or only the relation with the
            edited prompts is fitted to score 0.
        full: the score from which on a gate is fully open; the edited prompts score 1.
        learning_rate: of Adam on the values, whose unit is the root mean square of the hidden states.
        max_steps: optimizer steps after which the edit has failed.
        margin: by how many nats every token of the target must lead its runner-up before training stops.

    Raises:
        ConfigError: a value is out of its range, or a range's limits are not in order.
    """

    depth: float = number(1.0, least=0, most=1)
    lowest_depth: float = number(0.65, least=0, most=1)
    ridge: float = number(0.3, above=0)
    threshold: float = number(0.6, least=0, most=1)
    full: float = number(0.65, above=0, most=1)
    learning_rate: float = number(0.05, above=0)
    max_steps: int = whole(120)
    margin: float = number(1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lowest_depth > self.depth:
            raise ConfigError(f"lowest_depth ({self.lowest_depth}) must be at most depth ({self.depth}).")
        if self.threshold >= self.full:
            raise ConfigError(f"threshold ({self.threshold}) must be below full ({self.full}).")

    @property
    def first_stop(self) -> int:
        """The first step after which training may stop."""
        return 0
