"""GRACE's codebook: keys with radii, the value of each, and the rules by which one more edit enters."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from roselora.errors import ConfigError

PADDING = -1
"""What fills the label rows that are shorter than the longest."""

COVER = 1.001
"""How far beyond a key that it shall cover a radius grows, so that rounding in another batch does not undo it."""

SAME_KEY = 1e-5
"""The distance, as a share of the key's norm, below which two keys cannot be told apart."""


@dataclass(frozen=True, eq=False)
class Codebook:
    """What GRACE remembers.

    Attributes:
        keys: (n, d_in) fp32, inputs of the layer.
        values: (n, d_out) fp32, what the layer gives instead for inputs near a key.
        radii: (n,) fp32, how near: the Euclidean distance up to which a key answers.
        labels: (n, length) int64, the token ids of each entry's target, filled with PADDING.
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
        """The codebook that :meth:`memory` gave.

        Raises:
            ConfigError: a tensor is missing, or they do not fit each other or a layer from d_in to d_out.
        """
        missing = {"keys", "values", "radii", "labels"} - set(memory)
        if missing:
            raise ConfigError(f"The memory of an earlier call has no {min(missing)}; it is not GRACE's.")
        book = cls(memory["keys"], memory["values"], memory["radii"], memory["labels"])
        n = len(book.radii)
        if book.keys.shape != (n, d_in) or book.values.shape != (n, d_out) or len(book.labels) != n:
            raise ConfigError(
                f"The codebook has keys {tuple(book.keys.shape)} and values {tuple(book.values.shape)}; this layer "
                f"takes {d_in} and gives {d_out}: edit the layer that the codebook was made at."
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
        # By way of a matrix product, small distances would drown in rounding.
        distances = torch.cdist(flat, self.keys, compute_mode="donot_use_mm_for_euclid_dist")
        smallest = distances.min(dim=1)
        return smallest.values.view(query.shape[:-1]), smallest.indices.view(query.shape[:-1])

    def admit(self, key: Tensor, value: Tensor, label: Tensor, radius: float) -> tuple["Codebook", int]:
        """The codebook with one more edit in it, and the index of the entry that serves it (the paper's Algorithm 1).

        Far from every key, a new entry with the first ``radius``. Near one with the same label, that one's radius
        grows to cover the key. Near one with another label, both radii are cut to half the distance. The paper leaves
        open what happens at a distance of 0: here the newer edit takes the entry over.

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
            # Its label's row may be too short for the new one, so the entry goes and comes back as the last.
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
    """The forward hook by which a layer answers from a codebook.

    Every position looks up its own input, and a hit replaces the layer's output at this position alone. In a causal
    model a position's input does not depend on what follows, so the prompt's last token finds the same entry whether
    it comes last, as in generation with a cache or with padding on the left, or is followed by an answer.

    Attributes:
        codebook: on the layer's device.
        trained: the index and the value of the entry that is in training, which goes before the codebook's.
    """

    def __init__(self, codebook: Codebook) -> None:
        self.codebook = codebook
        self.trained: tuple[int, nn.Parameter] | None = None

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """The layer's output (..., d_out), with the values of the entries that its input (..., d_in) hits."""
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
    """The lookup that is on a layer, if one is."""
    return next((hook for hook in module._forward_hooks.values() if isinstance(hook, Lookup)), None)
