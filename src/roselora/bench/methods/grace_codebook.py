"""GRACE's codebook: keys with radii, the value of each, and the rules by which one more edit enters."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from roselora.errors import ConfigError

PADDING = -1
"""Fills the label rows that are shorter than the longest."""

COVER = 1.001
"""The factor by which a radius grows beyond the distance of the key that it is to cover, since another batch rounds \
differently."""

SAME_KEY = 1e-5
"""The distance, as a share of the key's norm, below which two keys count as the same."""


@dataclass(frozen=True, eq=False)
class Codebook:
    """GRACE's codebook of n entries.

    Attributes:
        keys: (n, d_in) fp32, inputs of the layer.
        values: (n, d_out) fp32, the layer's output for inputs within the radius of a key.
        radii: (n,) fp32, the Euclidean distance up to which a key matches.
        labels: (n, length) int64, the token ids of each entry's target, filled with PADDING.

    >>> label = torch.tensor([5, 6])
    >>> book, entry = Codebook.empty(2, 2).admit(torch.zeros(2), torch.ones(2), label, radius=1.0)
    >>> book, entry = book.admit(torch.tensor([0.0, 0.8]), torch.ones(2), torch.tensor([7]), radius=1.0)
    >>> entry, [round(radius, 3) for radius in book.radii.tolist()]
    (1, [0.4, 0.4])
    """

    keys: Tensor
    values: Tensor
    radii: Tensor
    labels: Tensor

    @classmethod
    def empty(cls, d_in: int, d_out: int) -> "Codebook":
        """A codebook without entries."""
        labels = torch.zeros(0, 0, dtype=torch.long)
        return cls(torch.zeros(0, d_in), torch.zeros(0, d_out), torch.zeros(0), labels)

    @classmethod
    def from_memory(cls, memory: Mapping[str, Tensor], d_in: int, d_out: int) -> "Codebook":
        """The codebook whose tensors :meth:`memory` returned.

        Raises:
            ConfigError: a tensor is missing, or the tensors do not fit each other or a layer from d_in to d_out.
        """
        missing = {"keys", "values", "radii", "labels"} - set(memory)
        if missing:
            raise ConfigError(f"The memory of an earlier call has no {min(missing)}; it is not GRACE's.")
        book = cls(memory["keys"], memory["values"], memory["radii"], memory["labels"])
        n = len(book.radii)
        if book.keys.shape != (n, d_in) or book.values.shape != (n, d_out) or len(book.labels) != n:
            raise ConfigError(
                f"The codebook has keys {tuple(book.keys.shape)} and values {tuple(book.values.shape)}; this layer "
                f"takes {d_in} and gives {d_out}: edit the layer that the codebook was made for."
            )
        return book

    def memory(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {"keys": self.keys, "values": self.values, "radii": self.radii, "labels": self.labels}

    def to(self, device: torch.device) -> "Codebook":
        """The same codebook on another device."""
        return Codebook(**{name: tensor.to(device) for name, tensor in self.memory().items()})

    def nearest(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """For queries (..., d_in) the distance to the nearest key and its index, each (...); there must be a key."""
        flat = query.reshape(-1, query.shape[-1]).float()
        # Computed by a matrix product, small distances would drown in rounding errors.
        distances = torch.cdist(flat, self.keys, compute_mode="donot_use_mm_for_euclid_dist")
        smallest = distances.min(dim=1)
        return smallest.values.view(query.shape[:-1]), smallest.indices.view(query.shape[:-1])

    def admit(self, key: Tensor, value: Tensor, label: Tensor, radius: float) -> tuple["Codebook", int]:
        """The codebook with one more edit, and the index of the entry that serves it (the paper's Algorithm 1).

        Far from every key, the edit gets a new entry with the first ``radius``. Near an entry with the same label, that
        entry's radius grows to cover the key. Near an entry with another label, the edit gets a new entry and both
        radii are cut to half the distance. The paper does not say what happens at a distance of 0: here the newer edit
        replaces the entry.

        Args:
            key: (d_in,); value: (d_out,), where a new entry's training starts; label: (length,) int64.
        """
        if len(self.radii) == 0:
            return self._appended(key, value, label, radius), 0
        distances, indices = self.nearest(key)
        distance, index = float(distances), int(indices)
        if distance > float(self.radii[index]) + radius:
            return self._appended(key, value, label, radius), len(self.radii)
        if self._label(index) == label.tolist():
            grown = max(float(self.radii[index]), distance * COVER)
            return replace(self, radii=_with_row(self.radii, index, grown)), index
        if distance <= SAME_KEY * float(key.norm()):
            # The label's row may be too short for the new label, so the entry is removed and appended as the last.
            kept = [i for i in range(len(self.radii)) if i != index]
            without = Codebook(self.keys[kept], self.values[kept], self.radii[kept], self.labels[kept])
            return without._appended(key, value, label, float(self.radii[index])), len(kept)
        half = distance / 2
        cut = replace(self, radii=_with_row(self.radii, index, min(float(self.radii[index]), half)))
        return cut._appended(key, value, label, min(radius, half)), len(self.radii)

    def with_value(self, index: int, value: Tensor) -> "Codebook":
        """The codebook with another value in one entry; the other entries keep theirs."""
        return replace(self, values=_with_row(self.values, index, value))

    def _label(self, index: int) -> list[int]:
        return [token for token in self.labels[index].tolist() if token != PADDING]

    def _appended(self, key: Tensor, value: Tensor, label: Tensor, radius: float) -> "Codebook":
        width = max(self.labels.shape[1], len(label))
        grown = nn.functional.pad(self.labels, (0, width - self.labels.shape[1]), value=PADDING)
        row = nn.functional.pad(label, (0, width - len(label)), value=PADDING)
        return Codebook(
            torch.cat([self.keys, key.float()[None]]),
            torch.cat([self.values, value.float()[None]]),
            torch.cat([self.radii, self.radii.new_tensor([radius])]),
            torch.cat([grown, row[None]]),
        )


def _with_row(tensor: Tensor, index: int, row: Any) -> Tensor:
    changed = tensor.clone()
    changed[index] = row
    return changed


class Lookup:
    """A forward hook by which a layer takes its output from a codebook.

    Every position looks up its own input, and a hit replaces the layer's output at this position alone. In a causal
    model a position's input does not depend on what follows, so the prompt's last token hits the same entry whether
    it comes last, as in generation with a cache or with padding on the left, or is followed by an answer.

    Attributes:
        codebook: on the layer's device.
        trained: the index and the value of the entry that is in training; this value overrides the codebook's.
    """

    def __init__(self, codebook: Codebook) -> None:
        self.codebook = codebook
        self.trained: tuple[int, nn.Parameter] | None = None

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """The layer's output (..., d_out), replaced by an entry's value where the input (..., d_in) hits one."""
        book = self.codebook
        if len(book.radii) == 0:
            return output
        distances, indices = book.nearest(inputs[0].detach())
        values = book.values
        if self.trained is not None:
            index, value = self.trained
            values = values.index_copy(0, torch.tensor([index], device=values.device), value[None])
        hit = distances <= book.radii[indices]
        return torch.where(hit[..., None], values[indices].to(output.dtype), output)


def installed(module: nn.Module) -> Lookup | None:
    """The lookup that is installed on a layer, if there is one."""
    return next((hook for hook in module._forward_hooks.values() if isinstance(hook, Lookup)), None)
