"""Checkpoints of a sequence of edits, from which a killed run resumes instead of starting again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from roselora.bench.records.edit_bench_records import Cost
from roselora.bench.records.run_files import as_json
from roselora.errors import FileFormatError, reason_of
from roselora.files import write_atomically

_WEIGHT, _MEMORY = "weight:", "memory:"


@dataclass(frozen=True)
class AttemptedEdit:
    """The outcome of one request of a sequence: its cost, or why it failed."""

    cost: Cost | None
    error: str | None


@dataclass(frozen=True)
class Checkpoint:
    """The state after some edits of a sequence.

    Attributes:
        weights: the weights that differ from the base's, by name.
        memory: what the method's last call left for its next one.
        attempts: the outcome of each edit so far.
    """

    weights: Mapping[str, Tensor]
    memory: Mapping[str, Tensor]
    attempts: Sequence[AttemptedEdit]

    def save(self, path: Path) -> None:
        """Write it as one file, whole or not at all."""
        tensors = {_WEIGHT + name: tensor.contiguous() for name, tensor in self.weights.items()}
        tensors |= {_MEMORY + name: tensor.contiguous() for name, tensor in self.memory.items()}
        header = {"done": str(len(self.attempts)), "records": json.dumps(as_json(self.attempts))}
        write_atomically(path, safetensors.torch.save(tensors, header))

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read it back.

        Raises:
            FileFormatError: it is not such a file.
        """
        try:
            with safe_open(path, framework="pt") as file:
                attempts = TypeAdapter(list[AttemptedEdit]).validate_json(file.metadata()["records"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise FileFormatError(
                f"{path} is not a run's checkpoint ({reason_of(error)}); delete it to start again."
            ) from error
        weights, memory = (
            {name.removeprefix(kind): tensor for name, tensor in tensors.items() if name.startswith(kind)}
            for kind in (_WEIGHT, _MEMORY)
        )
        return cls(weights, memory, attempts)


class BaseWeights:
    """A copy of every weight of the unedited model, to compare with and to restore."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._base = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    @torch.no_grad()
    def changed(self) -> dict[str, Tensor]:
        """The weights that differ from the base's, by name, on the CPU."""
        now = dict(self._model.named_parameters())
        return {name: now[name].detach().cpu() for name, base in self._base.items() if not torch.equal(now[name], base)}

    @torch.no_grad()
    def changed_entries(self) -> int:
        """How many entries differ from the base's."""
        return sum(int((p.detach() != self._base[name]).sum()) for name, p in self._model.named_parameters())

    @torch.no_grad()
    def restore(self, instead: Mapping[str, Tensor] | None = None) -> None:
        """Put the base's value into every weight, but those of ``instead`` into the weights that it names."""
        instead = instead or {}
        for name, parameter in self._model.named_parameters():
            wanted = instead.get(name, self._base[name]).to(parameter.device)
            if not torch.equal(parameter, wanted):
                parameter.copy_(wanted)
