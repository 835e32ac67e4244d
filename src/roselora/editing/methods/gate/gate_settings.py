"""How a gated neuron edit is made."""

from dataclasses import dataclass

from roselora.editing.methods.neuron_settings import NeuronSettings


@dataclass(frozen=True)
class GateSettings(NeuronSettings):
    """How a gated neuron edit (``--method gate``) is made: all that there is to say is in `NeuronSettings`.

    Example:
        >>> GateSettings(depth=0.9).threshold
        0.6
    """
