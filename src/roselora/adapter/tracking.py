"""Which RoseLoRA adapters are on which model. The record is kept on the model, so that deepcopy and pickle copy it."""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass

from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from roselora.adapter.factors import COLUMNS, ROWS, FactorPair, adapted_layers, factor_pair
from roselora.adapter.sparsity_config import SparsityConfig
from roselora.core.schedule import density_at
from roselora.errors import ConfigError

_ATTRIBUTE = "_roselora_adapters"


@dataclass(frozen=True)
class Retention:
    """How strongly an adapter's entries move the model on the prompts that should not move.

    Attributes:
        weight: λ, how much of the sensitivities is subtracted from the importance.
        sensitivities: by factor name, |w · ∂K/∂w| for the KL divergence K on these prompts; of the factor's shape,
            fp32.
    """

    weight: float
    sensitivities: dict[str, Tensor]


@dataclass
class TrackedAdapter:
    """One RoseLoRA adapter on one model.

    Attributes:
        name: the adapter's name in PEFT.
        config: its configuration.
        total_steps: the number of optimizer steps, from the config or from a Trainer.
        steps: the number of steps that have pruned it.
        retention: what the next steps subtract from the importance, if anything.
    """

    name: str
    config: SparsityConfig
    total_steps: int | None = None
    steps: int = 0
    retention: Retention | None = None

    def ramp(self) -> tuple[int, int]:
        """The schedule's t_i and t_f.

        Raises:
            ConfigError: the number of training steps is not known.
        """
        if self.total_steps is None:
            raise ConfigError(
                f"RoseLoRA adapter {self.name!r} does not know how long training is: set total_steps in its "
                "RoseLoraConfig to the number of optimizer steps (a Trainer does so by itself)."
            )
        return self.config.ramp_bounds(self.total_steps)

    def density_at(self, step: int) -> float:
        """The density after optimizer step ``step``; raises as :meth:`ramp` does."""
        start, end = self.ramp()
        return density_at(step, target=self.config.density, ramp_start=start, ramp_end=end)


class TrackedModel:
    """The RoseLoRA adapters on one model, kept as an attribute of the model so that a copy of it has a record too."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.adapters: dict[str, TrackedAdapter] = {}
        # Weak references, so that unloading an adapter frees its layers.
        self._layers: dict[str, list[tuple[str, weakref.ref[LoraLayer]]]] = {}

    def __reduce__(self) -> tuple[object, ...]:
        # deepcopy and pickle call this with the model already copied, so the new record belongs to the new model.
        return _restore, (self.model, self.adapters)

    def add(self, adapter: TrackedAdapter) -> None:
        """Add an adapter, in place of any other of the same name."""
        self.remove(adapter.name)
        self.adapters[adapter.name] = adapter

    def remove(self, adapter_name: str) -> None:
        """Remove the adapter if it is a RoseLoRA adapter."""
        self.adapters.pop(adapter_name, None)
        self._layers.pop(adapter_name, None)

    def pairs(self, adapter_name: str) -> list[FactorPair]:
        """The adapter's current factors.

        The layers are searched once. Their parameters are looked up at every call, because sharding and
        ``load_state_dict(assign=True)`` replace them.
        """
        if adapter_name not in self._layers:
            layers = adapted_layers(self.model, adapter_name)
            self._layers[adapter_name] = [(name, weakref.ref(layer)) for name, layer in layers]
        living = ((name, reference()) for name, reference in self._layers[adapter_name])
        return [
            factor_pair(name, layer, adapter_name)
            for name, layer in living
            if layer is not None and adapter_name in layer.scaling
        ]

    def factors(self, adapter_name: str) -> Iterator[tuple[str, nn.Parameter, int]]:
        """For every A and B of the adapter: its name, the parameter, and the dimension along which entries compete."""
        for pair in self.pairs(adapter_name):
            yield f"{pair.name}.lora_A", pair.a, ROWS
            yield f"{pair.name}.lora_B", pair.b, COLUMNS

    def trains(self, adapter_name: str) -> bool:
        """Whether any factor of the adapter is trainable now."""
        return any(factor.requires_grad for _, factor, _ in self.factors(adapter_name))


_TRACKED: "weakref.WeakSet[TrackedModel]" = weakref.WeakSet()


def track(model: nn.Module, adapter: TrackedAdapter) -> None:
    """Prune this adapter of ``model`` from now on, whichever optimizer trains it."""
    tracked = vars(model).get(_ATTRIBUTE)
    if tracked is None:
        tracked = TrackedModel(model)
        setattr(model, _ATTRIBUTE, tracked)
        _TRACKED.add(tracked)
    tracked.add(adapter)


def untrack(model: nn.Module, adapter_name: str) -> None:
    """Stop pruning the adapter of this name: an adapter of another method has taken the name."""
    tracked = vars(model).get(_ATTRIBUTE)
    if tracked is not None:
        tracked.remove(adapter_name)


def tracked_models() -> list[TrackedModel]:
    """Every model in this process that has a RoseLoRA adapter."""
    return [tracked for tracked in _TRACKED if tracked.adapters]


def adapters_within(model: nn.Module) -> list[tuple[TrackedModel, TrackedAdapter]]:
    """Every RoseLoRA adapter on ``model`` or on a module of it, with the record that holds it."""
    parts = (vars(module).get(_ATTRIBUTE) for module in model.modules())
    return [(tracked, adapter) for tracked in parts if tracked is not None for adapter in tracked.adapters.values()]


def _restore(model: nn.Module, adapters: dict[str, TrackedAdapter]) -> TrackedModel:
    tracked = TrackedModel(model)
    tracked.adapters = adapters
    _TRACKED.add(tracked)
    return tracked
