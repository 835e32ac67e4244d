"""Which RoseLoRA adapters live on which model, found again after deepcopy, pickle and sharding."""

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
    """What the entries of an adapter do to behaviour that must stay.

    Attributes:
        weight: how much of it is subtracted from the importance.
        sensitivities: for each factor's name |w * dK/dw|, of the factor's shape, fp32.
    """

    weight: float
    sensitivities: dict[str, Tensor]


@dataclass
class TrackedAdapter:
    """One RoseLoRA adapter on one model.

    Attributes:
        name: the adapter's name in PEFT.
        config: its settings.
        total_steps: the number of optimizer steps, from the config or from a Trainer.
        steps: how many optimizer steps have pruned it in this process.
        retention: what the next steps subtract from the importance, if anything.
        scores: by factor's name what the next step takes in place of |w * g|, if anything, of the factor's shape, fp32.
    """

    name: str
    config: SparsityConfig
    total_steps: int | None = None
    steps: int = 0
    retention: Retention | None = None
    scores: dict[str, Tensor] | None = None

    def ramp(self) -> tuple[int, int]:
        """The schedule's t_i and t_f.

        Raises:
            ConfigError: nobody has said how long training is.
        """
        if self.total_steps is None:
            raise ConfigError(
                f"RoseLoRA adapter {self.name!r} does not know how long training is: set total_steps in its "
                "RoseLoraConfig to the number of optimizer steps (a Trainer does so by itself)."
            )
        return self.config.ramp_bounds(self.total_steps)

    def density_at(self, step: int) -> float:
        """What it is pruned to after ``step`` optimizer steps; raises as :meth:`ramp` does."""
        start, end = self.ramp()
        return density_at(step, target=self.config.density, ramp_start=start, ramp_end=end)


class TrackedModel:
    """The RoseLoRA adapters on one model. It hangs on the model itself, so that a copy brings its own."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.adapters: dict[str, TrackedAdapter] = {}
        # Weak, so that unloading an adapter frees it.
        self._layers: dict[str, list[tuple[str, weakref.ref[LoraLayer]]]] = {}

    def __reduce__(self) -> tuple[object, ...]:
        # deepcopy and pickle both come here after they have made the new model, so the copy is tracked too.
        return _restore, (self.model, self.adapters)

    def add(self, adapter: TrackedAdapter) -> None:
        """Note a new adapter, or one that replaces another of the same name."""
        self.remove(adapter.name)
        self.adapters[adapter.name] = adapter

    def remove(self, adapter_name: str) -> None:
        """Forget the adapter, if it was ours."""
        self.adapters.pop(adapter_name, None)
        self._layers.pop(adapter_name, None)

    def pairs(self, adapter_name: str) -> list[FactorPair]:
        """The adapter's factors as they are now.

        The walk over all modules is done once; the parameters are looked up at every call, because sharding and
        ``load_state_dict(assign=True)`` put new ones in the layers.
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
        """Name, parameter and dimension along which entries compete, of every A and B of the adapter."""
        for pair in self.pairs(adapter_name):
            yield f"{pair.name}.lora_A", pair.a, ROWS
            yield f"{pair.name}.lora_B", pair.b, COLUMNS

    def trains(self, adapter_name: str) -> bool:
        """Whether anything of the adapter is trainable now; others on the model may be frozen."""
        return any(factor.requires_grad for _, factor, _ in self.factors(adapter_name))


_TRACKED: "weakref.WeakSet[TrackedModel]" = weakref.WeakSet()


def track(model: nn.Module, adapter: TrackedAdapter) -> None:
    """Prune this adapter of ``model`` from now on, whatever optimizer trains it."""
    tracked = vars(model).get(_ATTRIBUTE)
    if tracked is None:
        tracked = TrackedModel(model)
        setattr(model, _ATTRIBUTE, tracked)
        _TRACKED.add(tracked)
    tracked.add(adapter)


def untrack(model: nn.Module, adapter_name: str) -> None:
    """Forget an adapter whose name another method's adapter now takes."""
    tracked = vars(model).get(_ATTRIBUTE)
    if tracked is not None:
        tracked.remove(adapter_name)


def tracked_models() -> list[TrackedModel]:
    """Every living model that carries a RoseLoRA adapter."""
    return [tracked for tracked in _TRACKED if tracked.adapters]


def adapters_within(model: nn.Module) -> list[tuple[TrackedModel, TrackedAdapter]]:
    """Every RoseLoRA adapter on ``model`` itself or on a part of it, with what carries it."""
    parts = (vars(module).get(_ATTRIBUTE) for module in model.modules())
    return [(tracked, adapter) for tracked in parts if tracked is not None for adapter in tracked.adapters.values()]


def _restore(model: nn.Module, adapters: dict[str, TrackedAdapter]) -> TrackedModel:
    tracked = TrackedModel(model)
    tracked.adapters = adapters
    _TRACKED.add(tracked)
    return tracked
