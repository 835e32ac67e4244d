"""Applies deltas to the weights of a live model and removes any of them exactly.

A weight's value is always fl(original + the active deltas' values in commit order), summed in fp32 and rounded once to
the weight's dtype. So it depends on which deltas are active, and not on the order in which they were applied and
removed. The sums are computed on the CPU, so that every device gets the same bytes; only the entries that change are
copied to and from the weight's device.

Every change is planned first, for all weights of a delta, and written only if all plans can be written. What fails
while writing is undone.
"""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from roselora.delta.expansion import Ints
from roselora.delta.journal import Bands, DenseJournal, PlannedChange, SingleJournal, SparseJournal
from roselora.delta.sparse_delta import FLOAT_DTYPES, SparseDelta, SparseFactors
from roselora.errors import ConfigError, EditError, NonFiniteError, UnsupportedError, WrongBaseError
from roselora.files import dtype_name, sha256_tensor

Journal = SingleJournal | SparseJournal | DenseJournal

DENSE_SHARE = 0.15
"""From this share of a weight's entries on, its whole original is kept instead of that of single entries.

Measured on a 4096 x 4096 bf16 weight with one CPU thread: both ways take the same time for a second delta at a share of
0.18, and for a single one at about 0.7; they take the same memory for a single one at 0.125.
"""


@dataclass
class _Slot:
    """One tensor of the model that deltas have changed.

    Attributes:
        name: the weight's name in the delta that came first.
        flat: (numel,) a view of the weight's storage. While it is held, no other tensor can get the same address.
        shape: the weight's shape.
        journal: the deltas on it and its original values; None if no delta is active on it.
        base_sha256: the hash of the original, once somebody has asked for it.
        version: torch's count of writes to the tensor, after the last write that is known to be ours. A higher count
            means that something else has written to it.
    """

    name: str
    flat: Tensor
    shape: torch.Size
    journal: Journal | None = None
    base_sha256: str | None = None
    version: int = -1

    def note_write(self) -> None:
        """Count all writes up to now as ours."""
        self.version = self.flat._version

    @property
    def original(self) -> Tensor:
        """The base weight, bit for bit: the weight itself if no delta is active."""
        if self.journal is None:
            return self.flat.view(self.shape)
        if isinstance(self.journal, DenseJournal):
            return self.journal.original.view(self.shape)
        base = self.flat.to("cpu", copy=True)
        for _, _, (index, _, original) in self.journal.layers():
            base.index_copy_(0, torch.from_numpy(index), torch.from_numpy(original).to(base.dtype))
        return base.view(self.shape)


class Overlay:
    """The deltas on one live model, by id, in commit order.

    Arguments:
        model: the base model. Its weights are changed in place; while deltas are active, nothing else may change them.

    Applying and removing a delta write only the entries that it changes (`journal` says what it costs), or the whole
    weight if a delta changes `DENSE_SHARE` of it or more. Not thread-safe.

    Example:
        >>> import torch
        >>> from roselora import Overlay, SparseDelta
        >>> from roselora.delta.layer_kinds import layer_factors
        >>> model = torch.nn.Sequential(torch.nn.Linear(40, 30))
        >>> base = model[0].weight.clone()
        >>> def change(row, column):  # adds 1 to one entry
        ...     A, B = torch.zeros(1, 40), torch.zeros(30, 1)
        ...     A[0, column], B[row] = 1, 1
        ...     return SparseDelta((layer_factors("0", model[0], A, B, scale=1.0),))
        >>> first, second = change(2, 3), change(5, 7)
        >>> overlay = Overlay(model)
        >>> overlay.apply("first", first)
        >>> overlay.apply("second", second)
        >>> overlay.remove("first")  # in any order
        >>> overlay.active, (model[0].weight != base).nonzero().tolist()
        (('second',), [[5, 7]])
        >>> overlay.remove("second")
        >>> torch.equal(model[0].weight, base)  # bit for bit
        True
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._slots: dict[tuple[Any, ...], _Slot] = {}
        self._active: dict[str, tuple[int, list[_Slot]]] = {}
        self._next_position = 0

    @property
    def active(self) -> tuple[str, ...]:
        """The ids of the applied deltas, in commit order."""
        return tuple(sorted(self._active, key=lambda key: self._active[key][0]))

    def base_sha256(self, name: str) -> str:
        """`files.sha256_tensor` of the weight `name` without any delta.

        Raises:
            ConfigError: the model has no such weight.
        """
        weight = self._weight(name)
        slot = self._slots.get(_address(weight))
        if slot is None:
            return sha256_tensor(weight)
        if slot.base_sha256 is None or slot.version != slot.flat._version:
            slot.base_sha256 = sha256_tensor(slot.original)
            if slot.journal is None:
                slot.note_write()
        return slot.base_sha256

    def changed(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Each weight that active deltas are on: its name, the base weight and what it is now, one at a time."""
        for slot in self._slots.values():
            if slot.journal is not None:
                yield slot.name, slot.original, slot.flat.view(slot.shape)

    def apply(self, key: str, delta: SparseDelta, position: int | None = None, force: bool = False) -> None:
        """Add `delta` to the model under the id `key`. If that fails, nothing has changed.

        Arguments:
            key: an id that no active delta has.
            delta: the update.
            position: its place in commit order, a number that no active delta has; to apply a removed delta again, give
                the position that it had. By default it is after all deltas so far.
            force: apply it even if the base weights are not those that it was made for. Shapes must fit all the same.

        Raises:
            ConfigError: the id or position is taken, or a weight is missing from the model or has another shape.
            WrongBaseError: a base weight's dtype or SHA-256 is not the delta's.
            UnsupportedError: a weight is quantized, on the meta device, not contiguous or a tensor subclass, or the
                delta changes one tied weight under two names.
            NonFiniteError: the sum is not finite in the weight's dtype.
            EditError: something else has changed or replaced a weight since a delta was applied to it.
        """
        if key in self._active:
            raise ConfigError(f"A delta {key!r} is already applied; remove it first.")
        position = self._next_position if position is None else position
        if any(position == taken for taken, _ in self._active.values()):
            raise ConfigError(f"Position {position} is taken by another active delta; give each its own.")
        slots = [self._slot(factors) for factors in delta.weights]
        self._refuse_shared(delta, slots)
        for slot, factors in zip(slots, delta.weights, strict=True):
            if not force:
                self._check_base(slot, factors)
        _write([_plan_apply(slot, factors, key, position) for slot, factors in zip(slots, delta.weights, strict=True)])
        self._active[key] = (position, slots)
        self._next_position = max(self._next_position, position + 1)

    def remove(self, key: str) -> None:
        """Remove the delta `key` from the model. If that fails, nothing has changed.

        Every byte is then as if the delta had never been applied.

        Raises:
            ConfigError: no such delta is applied.
            EditError: something else has changed or replaced a weight since.
        """
        if key not in self._active:
            raise ConfigError(f"No delta {key!r} is applied; active are {list(self.active)}.")
        _, slots = self._active[key]
        for slot in slots:
            if _address(self._weight(slot.name)) != _address(slot.flat):
                raise EditError(
                    f"{slot.name} was replaced (moved, cast or reloaded) while delta {key!r} was applied; remove "
                    "deltas before that."
                )
        _write([_plan_remove(slot, key) for slot in slots])
        del self._active[key]

    def _slot(self, factors: SparseFactors) -> _Slot:
        """The slot of a weight. It is found by the weight's storage, so tied weights have one slot."""
        weight = self._weight(factors.name)
        _check_weight(factors, weight)
        address = _address(weight)
        if address not in self._slots:
            stale = [old for old, slot in self._slots.items() if slot.name == factors.name]
            for old in stale:
                if self._slots[old].journal is not None:
                    raise EditError(
                        f"{factors.name} was replaced (moved, cast or reloaded) while deltas were applied to it; "
                        "remove deltas before that."
                    )
                del self._slots[old]
            flat = weight.detach().view(-1)
            self._slots[address] = _Slot(factors.name, flat, weight.shape)
        return self._slots[address]

    def _check_base(self, slot: _Slot, factors: SparseFactors) -> None:
        if slot.flat.dtype != factors.base_dtype:
            raise WrongBaseError(
                f"{factors.name} is {dtype_name(slot.flat.dtype)} here, but the delta was made for "
                f"{dtype_name(factors.base_dtype)}; load the model in that dtype."
            )
        if self.base_sha256(factors.name) != factors.base_sha256:
            raise WrongBaseError(
                f"{factors.name} is not the weight that the delta was made for (its SHA-256 differs); load the "
                "model it was made for, or force it."
            )

    def _weight(self, name: str) -> Tensor:
        try:
            return self._model.get_parameter(name)
        except AttributeError:
            raise ConfigError(f"The model has no weight {name}; the delta was made for another model.") from None

    @staticmethod
    def _refuse_shared(delta: SparseDelta, slots: list[_Slot]) -> None:
        seen: dict[int, str] = {}
        for slot, factors in zip(slots, delta.weights, strict=True):
            other = seen.setdefault(id(slot), factors.name)
            if other != factors.name:
                raise UnsupportedError(
                    f"{other} and {factors.name} are one tied weight here; a delta may change it under one name only."
                )


@dataclass(frozen=True)
class _Step:
    """The plan for one weight.

    Attributes:
        slot: the weight.
        change: which of its entries become what.
        present: what these entries hold now, in the weight's dtype, on the CPU.
        journal: the slot's journal once the plan is carried out; it may be of another kind than the present one.
    """

    slot: _Slot
    change: PlannedChange
    present: Tensor
    journal: Journal


@np.errstate(over="ignore", invalid="ignore")  # _check_change refuses what is not finite
def _plan_apply(slot: _Slot, factors: SparseFactors, key: str, position: int) -> _Step:
    numel = slot.flat.numel()
    wide = factors.entries_at_most >= DENSE_SHARE * numel
    journal = slot.journal
    # A journal only ever becomes of a more general kind: single, sparse, dense. The old one is left as it is, for this
    # may fail; the new one is the slot's only once it is written.
    if wide and not isinstance(journal, DenseJournal):
        layers = {} if journal is None else _layers_as_bands(journal)
        journal = DenseJournal(slot.original.reshape(-1).to("cpu", copy=True), layers)
    if isinstance(journal, DenseJournal):
        return _Step(slot, journal.plan_apply(key, position, factors.expand_bands), _read(slot, None), journal)
    if journal is None:
        journal = SingleJournal()
    elif isinstance(journal, SingleJournal):
        journal = SparseJournal(numel, journal)
    index, value = (part.numpy() for part in factors.expand())
    present = _read(slot, index)
    return _Step(slot, journal.plan_apply(key, position, index, value, present.float().numpy()), present, journal)


@np.errstate(over="ignore", invalid="ignore")
def _plan_remove(slot: _Slot, key: str) -> _Step:
    assert slot.journal is not None, "an active delta has a journal in each of its slots"
    change = slot.journal.plan_remove(key)
    return _Step(slot, change, _read(slot, change.index), slot.journal)


def _layers_as_bands(journal: SingleJournal | SparseJournal) -> dict[str, tuple[int, Bands]]:
    """The deltas of a journal as a DenseJournal wants them, each in one band."""
    layers = journal.layers()
    return {key: (position, functools.partial(list, [(index, value)])) for key, position, (index, value, _) in layers}


def _check_weight(factors: SparseFactors, weight: Tensor) -> None:
    name = factors.name
    if weight.is_meta:
        raise UnsupportedError(f"{name} has no data (meta device); load the model before applying a delta.")
    if weight.dtype not in FLOAT_DTYPES or type(weight.data) is not Tensor:
        raise UnsupportedError(
            f"{name} is quantized or otherwise special ({type(weight.data).__name__}, {weight.dtype}); load "
            "the model in float32, bfloat16 or float16 to apply a delta."
        )
    if tuple(weight.shape) != factors.stored_shape:
        raise ConfigError(f"{name} is {tuple(weight.shape)} in the model, but {factors.stored_shape} in the delta.")
    if not weight.is_contiguous():
        raise UnsupportedError(f"{name} is not contiguous; make the weight contiguous before applying a delta.")
    if weight.is_inference():
        raise UnsupportedError(f"{name} was created in inference mode; load the model outside of it.")


def _address(weight: Tensor) -> tuple[Any, ...]:
    """Equal for tensors that share one storage, and different once a weight is moved, cast or replaced."""
    return weight.device, weight.data_ptr(), weight.numel(), weight.dtype


def _read(slot: _Slot, index: Ints | None) -> Tensor:
    """The weight's present values at `index` (n,), or all if None, in its dtype, as a new tensor on the CPU."""
    if index is None:
        return slot.flat.to("cpu", copy=True)
    return slot.flat.index_select(0, torch.from_numpy(index).to(slot.flat.device)).cpu()


def _put(slot: _Slot, index: Ints | None, new: Tensor) -> None:
    # On the CPU scatter_ takes O(numel) in bf16, and index_copy_ O(n).
    if index is None:
        slot.flat.copy_(new)
    else:
        device = slot.flat.device
        slot.flat.index_copy_(0, torch.from_numpy(index).to(device), new.to(device))
    torch.clear_autocast_cache()  # it would keep a cast copy of the old weight until the caller's autocast block ends


@torch.no_grad()
def _write(steps: list[_Step]) -> None:
    """Check all plans, then carry out all of them or none."""
    new = [_check_change(step) for step in steps]
    begun = 0
    try:
        for step, values in zip(steps, new, strict=True):
            begun += 1
            _put(step.slot, step.change.index, values)
            step.change.links.run()
    except BaseException:
        # BaseException, so that an interrupt from the keyboard is undone too. The step that failed may be half done,
        # and is undone with the others. Should undoing fail as well, the first error is the one to report.
        for step in steps[:begun]:
            step.change.links.undo()
            with contextlib.suppress(RuntimeError):
                _put(step.slot, step.change.index, step.present)
            step.slot.note_write()
        raise
    for step in steps:
        step.change.finish()
        step.slot.journal = step.journal if len(step.journal) else None
        step.slot.note_write()


def _check_change(step: _Step) -> Tensor:
    """The values to write, (n,) in the weight's dtype, once it is certain that they may be written.

    Raises:
        NonFiniteError: one is not finite.
        EditError: something else has written to entries that deltas have changed.
    """
    slot, change, present = step.slot, step.change, step.present
    values = torch.from_numpy(change.after).to(present.dtype)
    finite = np.isfinite(values.float().numpy())  # torch.isfinite takes ten times as long in bf16
    if not finite.all():
        place = int(np.flatnonzero(~finite)[0])
        entry = place if change.index is None else int(change.index[place])
        row, column = divmod(entry, slot.shape[1])
        raise NonFiniteError(
            f"{slot.name} would not be finite in {dtype_name(present.dtype)} at row {row}, column {column}; "
            "nothing was written."
        )
    # Where the journal knows what the entries should hold, that is compared; it finds also writes that torch does not
    # count, such as those through `weight.data`. Otherwise the count of writes has to do.
    written_outside = slot.version != slot.flat._version
    if change.before is None:
        outside = slot.journal is not None and written_outside
    else:
        outside = not torch.equal(torch.from_numpy(change.before).to(present.dtype), present)
    if outside:
        raise EditError(
            f"{slot.name} was changed by something else since a delta was applied to it; undo that change, or start "
            "again from the base model."
        )
    if written_outside:
        slot.base_sha256 = None  # entries that no delta changes may be others now, so the hash is no longer known
    return values
