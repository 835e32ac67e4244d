"""How a gated neuron edit is made."""

from dataclasses import dataclass

from roselora.editing.methods.setting_bounds import BoundedSettings, number, whole
from roselora.errors import ConfigError


@dataclass(frozen=True)
class GateSettings(BoundedSettings):
    """How a gated neuron edit (``--method gate``) is made.

    Attributes:
        depth: where in the model the edited MLP is: 0 is the first block, 1 the last.
        lowest_depth, highest_depth: the range of blocks that are filled when there are many edits.
        ridge: penalty of the regression that fits a gate, in units of the MLP inputs' mean square.
        quantile: the share of each group of negatives that would stay below the threshold if it had not been fitted.
        lowest, highest: limits of the threshold; the edited prompts score 1.
        learning_rate: of Adam on the values, whose unit is the root mean square of the hidden states.
        min_steps, max_steps: optimizer steps before which training never stops, and after which the edit has failed.
        margin: by how many nats every token of the target must lead its runner-up before training stops.
        activity: the least share of a neuron's activity at which its value is trained, so that prompts at which it is
            less active get the answer too.

    Raises:
        ConfigError: a value is out of its range, or a range's limits are not in order.

    Example:
        >>> GateSettings(depth=0.9).first_stop
        3
    """

    depth: float = number(0.86, least=0, most=1)
    lowest_depth: float = number(0.65, least=0, most=1)
    highest_depth: float = number(0.93, least=0, most=1)
    ridge: float = number(1.0, above=0)
    quantile: float = number(0.95, least=0, most=1)
    lowest: float = number(0.2, least=0, most=1)
    highest: float = number(0.7, least=0, most=1)
    learning_rate: float = number(0.05, above=0)
    min_steps: int = whole(3, least=1)
    max_steps: int = whole(60)
    margin: float = number(1.0)
    activity: float = number(0.6, above=0, most=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lowest_depth <= self.depth <= self.highest_depth:
            raise ConfigError(
                f"depth ({self.depth}) must be between lowest_depth ({self.lowest_depth}) and highest_depth "
                f"({self.highest_depth})."
            )
        if not self.lowest <= self.highest < 1:
            raise ConfigError(f"lowest ({self.lowest}) must be at most highest ({self.highest}), and that below 1.")
        if self.min_steps > self.max_steps:
            raise ConfigError(f"min_steps ({self.min_steps}) must be at most max_steps ({self.max_steps}).")

    @property
    def first_stop(self) -> int:
        """The first step after which training may stop."""
        return self.min_steps
