"""The overlay against a naive replay: every byte of every weight, in whatever order deltas are applied and removed."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from roselora.delta import delta_file, overlay
from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.errors import ConfigError, EditError, NonFiniteError, UnsupportedError, WrongBaseError
from roselora.files import sha256_tensor

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
LAYERS = {
    "linear.weight": "linear",
    "conv.weight": "conv1d",
    "embedding.weight": "embedding",
    "head.weight": "linear",
}
TIED = {"head.weight": "embedding.weight"}


class Tiny(nn.Module):
    """A Linear, a Conv1D, and an embedding tied to the head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.linear = nn.Linear(6, 8, bias=False)
        self.conv = Conv1D(6, 8)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embedding.weight


def tiny(dtype: torch.dtype, seed: int = 0) -> Tiny:
    generator = torch.Generator().manual_seed(seed)
    model = Tiny().to(dtype)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
            weight[..., :2] = -0.0  # the one number that adding 0.0 changes
    return model


def factors_for(model: nn.Module, name: str, generator: torch.Generator, density: float = 0.3) -> SparseFactors:
    weight = model.get_parameter(name)
    rows, columns = weight.shape
    d_out, d_in = (rows, columns) if LAYERS[name] == "linear" else (columns, rows)

    def sparse(*shape: int) -> Tensor:
        keep = torch.rand(shape, generator=generator) < density
        return torch.randn(shape, generator=generator) * keep

    return SparseFactors.from_factors(
        name,
        sparse(3, d_in),
        sparse(d_out, 3),
        scale=0.7,
        base_dtype=weight.dtype,
        base_sha256=sha256_tensor(weight),
        layer=LAYERS[name],
    )


def delta_for(model: nn.Module, names: list[str], seed: int, density: float = 0.3) -> SparseDelta:
    generator = torch.Generator().manual_seed(seed)
    return SparseDelta(tuple(factors_for(model, name, generator, density) for name in names))


def product(factors: SparseFactors) -> Tensor:
    """scale * B @ A in the stored orientation, term by term."""
    A, B = factors.to_factors()
    total = torch.zeros(factors.shape)
    for i in range(factors.rank):
        total += (B[:, i].float() * torch.tensor(factors.scale)).outer(A[i].float())
    return total.T if factors.transposed else total


def replay(base: dict[str, Tensor], deltas: list[SparseDelta]) -> dict[str, Tensor]:
    """The weights that `deltas`, in this order, make of `base`."""
    sums = {name: weight.float() for name, weight in base.items()}
    for delta in deltas:
        for factors in delta.weights:
            name = TIED.get(factors.name, factors.name)
            change = product(factors)
            sums[name] = torch.where(change != 0, sums[name] + change, sums[name])
    return {name: total.to(base[name].dtype) for name, total in sums.items()}


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def same_bytes(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return all(
        torch.equal(left[name].contiguous().view(torch.uint8), right[name].contiguous().view(torch.uint8))
        for name in left
    )


@pytest.fixture(params=[9.0, 0.4, 0.0], ids=["entry by entry", "mixed", "whole weights"])
def dense_share(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(overlay, "DENSE_SHARE", request.param)
    return request.param


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_promise_7_exact_undo_in_any_history(dtype: torch.dtype, dense_share: float) -> None:
    class History(RuleBasedStateMachine):
        @initialize(seed=st.integers(0, 10))
        def start(self, seed: int) -> None:
            self.model = tiny(dtype, seed)
            self.base = weights(self.model)
            self.overlay = Overlay(self.model)
            self.active: dict[str, tuple[int, SparseDelta]] = {}
            self.removed: dict[str, tuple[int, SparseDelta]] = {}
            self.count = 0

        def make(self, seed: int, names: list[str], density: float) -> SparseDelta:
            model = tiny(dtype)
            model.load_state_dict(self.base, strict=False)
            return delta_for(model, names, seed, density)

        @rule(
            seed=st.integers(0, 2**16),
            names=st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=3, unique=True),
            density=st.sampled_from([0.0, 0.1, 0.4, 1.0]),
        )
        def apply(self, seed: int, names: list[str], density: float) -> None:
            if {"head.weight", "embedding.weight"} <= set(names):
                names.remove("head.weight")
            key, delta = f"edit {self.count}", self.make(seed, names, density)
            self.overlay.apply(key, delta)
            self.active[key] = (self.count, delta)
            self.count += 1

        @precondition(lambda self: self.active)
        @rule(data=st.data())
        def remove(self, data: st.DataObject) -> None:
            key = data.draw(st.sampled_from(sorted(self.active)))
            self.overlay.remove(key)
            self.removed[key] = self.active.pop(key)

        @precondition(lambda self: self.removed)
        @rule(data=st.data())
        def redo_from_file(self, data: st.DataObject) -> None:
            key = data.draw(st.sampled_from(sorted(self.removed)))
            position, delta = self.removed.pop(key)
            again = delta_file.decode(delta_file.encode(delta), "a file")
            self.overlay.apply(key, again, position=position)
            self.active[key] = (position, again)

        @precondition(lambda self: self.active)
        @rule(data=st.data())
        def fail(self, data: st.DataObject) -> None:
            key = data.draw(st.sampled_from(sorted(self.active)))
            with pytest.raises(ConfigError):
                self.overlay.apply("another", self.active[key][1], position=self.active[key][0])
            with pytest.raises(ConfigError):
                self.overlay.apply(key, self.active[key][1])
            with pytest.raises(ConfigError):
                self.overlay.remove("no such edit")

        @invariant()
        def every_byte_is_the_replay(self) -> None:
            ordered = sorted(self.active, key=lambda key: self.active[key][0])
            expected = replay(self.base, [self.active[key][1] for key in ordered])
            assert same_bytes(weights(self.model), expected)
            assert self.overlay.active == tuple(ordered)

        def teardown(self) -> None:
            for key in list(self.active):
                self.overlay.remove(key)
            assert same_bytes(weights(self.model), self.base)

    quick = settings(max_examples=60, stateful_step_count=15, deadline=None)
    run_state_machine_as_test(History, settings=settings(quick, suppress_health_check=list(HealthCheck)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_promise_7_every_order_of_removal_of_overlapping_deltas(dtype: torch.dtype, dense_share: float) -> None:
    for order in itertools.permutations(range(4)):
        model = tiny(dtype)
        base = weights(model)
        deltas = {key: delta_for(model, ["linear.weight", "embedding.weight"], key, density=0.8) for key in range(4)}
        live = Overlay(model)
        for key, delta in deltas.items():
            live.apply(str(key), delta)
        for removed, key in enumerate(order):
            live.remove(str(key))
            left = [deltas[other] for other in sorted(order[removed + 1 :])]
            assert same_bytes(weights(model), replay(base, left))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_promise_7_redo_finds_its_place_among_overlapping_deltas(dtype: torch.dtype, dense_share: float) -> None:
    model = tiny(dtype)
    base = weights(model)
    deltas = [delta_for(model, ["linear.weight", "embedding.weight"], seed, density=0.8) for seed in range(4)]
    for order in itertools.permutations(range(4)):
        live = Overlay(model)
        for count, position in enumerate(order, start=1):
            live.apply(str(position), deltas[position], position=position)
            assert same_bytes(weights(model), replay(base, [deltas[other] for other in sorted(order[:count])]))
        for position in reversed(order):
            live.remove(str(position))
        assert same_bytes(weights(model), base)


def test_a_delta_of_zeros_changes_nothing() -> None:
    model = tiny(torch.bfloat16)
    base = weights(model)
    live = Overlay(model)
    live.apply("nothing", delta_for(model, ["linear.weight"], 0, density=0.0))
    assert same_bytes(weights(model), base)
    live.remove("nothing")
    assert live.active == ()


def test_promise_4_the_wrong_base_is_refused_and_force_applies_it_all_the_same() -> None:
    model, other = tiny(torch.float32, 0), tiny(torch.float32, 1)
    base = weights(model)
    delta = delta_for(other, ["linear.weight"], 5)
    live = Overlay(model)
    with pytest.raises(WrongBaseError, match=r"linear\.weight is not the weight"):
        live.apply("a", delta)
    assert same_bytes(weights(model), base)
    assert live.active == ()
    live.apply("a", delta, force=True)
    assert same_bytes(weights(model), replay(base, [delta]))
    with pytest.raises(WrongBaseError, match="float32 here, but the delta was made for bfloat16"):
        live.apply("b", delta_for(tiny(torch.bfloat16), ["linear.weight"], 5))


def test_promise_4_the_base_is_known_while_deltas_are_on_it(dense_share: float) -> None:
    model = tiny(torch.float32)
    first, second = delta_for(model, ["linear.weight"], 1), delta_for(model, ["linear.weight"], 2)
    live = Overlay(model)
    live.apply("a", first, force=True)  # nothing is hashed yet
    live.apply("b", second)
    assert live.active == ("a", "b")


def test_promise_4_a_base_that_was_trained_since_is_hashed_again() -> None:
    model = tiny(torch.float32)
    delta = delta_for(model, ["linear.weight"], 1)
    live = Overlay(model)
    live.apply("a", delta)
    live.remove("a")
    with torch.no_grad():
        model.linear.weight.add_(1)
    with pytest.raises(WrongBaseError):
        live.apply("a", delta)


def test_a_change_from_outside_is_refused_and_kept(dense_share: float) -> None:
    model = tiny(torch.float32)
    live = Overlay(model)
    delta = delta_for(model, ["linear.weight"], 1)
    live.apply("a", delta)
    with torch.no_grad():
        model.linear.weight.mul_(1.5)
    before = weights(model)
    with pytest.raises(EditError, match="changed by something else"):
        live.remove("a")
    with pytest.raises(EditError, match="changed by something else"):
        live.apply("b", delta, force=True)
    assert same_bytes(weights(model), before)
    with torch.no_grad():
        model.linear.weight.copy_(replay(weights(tiny(torch.float32)), [delta])["linear.weight"])
    if dense_share == 9.0:
        live.remove("a")  # the entries are ours again
        assert same_bytes(weights(model), weights(tiny(torch.float32)))


def test_a_replaced_weight_is_refused() -> None:
    model = tiny(torch.float32)
    live = Overlay(model)
    delta = delta_for(model, ["linear.weight"], 1)
    live.apply("a", delta)
    kept = model.linear.weight
    model.linear.weight = nn.Parameter(kept.detach().clone())
    with pytest.raises(EditError, match="replaced"):
        live.remove("a")
    with pytest.raises(EditError, match="replaced"):
        live.apply("b", delta)
    model.linear.weight = kept
    live.remove("a")
    model.linear.weight = nn.Parameter(kept.detach().clone())
    live.apply("a", delta)  # nothing was on it: the new weight is the base


def test_promise_3_a_sum_that_is_not_finite_is_refused_before_anything_is_written(dense_share: float) -> None:
    model = tiny(torch.float16)
    base = weights(model)
    good = factors_for(model, "embedding.weight", torch.Generator().manual_seed(0))
    huge = SparseFactors.from_factors(
        "linear.weight",
        torch.full((1, 6), 300.0),
        torch.full((8, 1), 300.0),
        1.0,
        base_dtype=torch.float16,
        base_sha256=sha256_tensor(model.linear.weight),
    )
    live = Overlay(model)
    with pytest.raises(NonFiniteError, match="row 0, column 0"):
        live.apply("a", SparseDelta((good, huge)))
    assert same_bytes(weights(model), base)
    assert live.active == ()


@pytest.mark.filterwarnings("error")
def test_promise_3_an_overflow_of_fp32_is_refused_without_a_warning(dense_share: float) -> None:
    model = tiny(torch.float32)
    base = weights(model)
    sha256 = sha256_tensor(model.linear.weight)
    live = Overlay(model)
    for size, count in [(1e30, 1), (1.5e19, 2)]:  # one product overflows; or the sum of two
        A, B = torch.full((count, 6), size), torch.full((8, count), size)
        huge = SparseFactors.from_factors("linear.weight", A, B, 1.0, base_dtype=torch.float32, base_sha256=sha256)
        with pytest.raises(NonFiniteError, match=r"linear\.weight would not be finite in float32"):
            live.apply("a", SparseDelta((huge,)))
        assert same_bytes(weights(model), base)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_failure_while_writing_leaves_everything_as_before(
    dtype: torch.dtype, dense_share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(dtype)
    base = weights(model)
    names = ["linear.weight", "conv.weight", "embedding.weight"]
    deltas = {position: delta_for(model, names, position + 5, 0.6) for position in (-1, 0, 5, 10, 20)}
    live = Overlay(model)
    live.apply("0", deltas[0], position=0)
    live.apply("10", deltas[10], position=10)
    before = weights(model)
    real = overlay._put

    def interrupted(broken: int) -> None:
        calls = itertools.count()

        def put(slot: Any, index: Any, new: Tensor) -> None:
            real(slot, index, new)
            if next(calls) == broken:
                raise KeyboardInterrupt

        monkeypatch.setattr(overlay, "_put", put)

    def no_trace_is_left() -> None:
        monkeypatch.setattr(overlay, "_put", real)
        assert same_bytes(weights(model), before)
        assert live.active == ("0", "10")

    for broken in range(3):
        for position in (-1, 5, 20):
            interrupted(broken)
            with pytest.raises(KeyboardInterrupt):
                live.apply("new", deltas[position], position=position)
            no_trace_is_left()
        for key in ("0", "10"):
            interrupted(broken)
            with pytest.raises(KeyboardInterrupt):
                live.remove(key)
            no_trace_is_left()
    active = [0, 10]
    for position in (20, 5, -1, -10, -20, -5, 20, -20):  # a minus takes the one at 10, 20 or 5 away
        key = abs(position)
        if position < -1:
            live.remove(str(key))
            active.remove(key)
        else:
            live.apply(str(position), deltas[position], position=position)
            active.append(position)
        assert same_bytes(weights(model), replay(base, [deltas[other] for other in sorted(active)]))


def test_tied_weights_are_touched_once_and_under_one_name() -> None:
    model = tiny(torch.float32)
    base = weights(model)
    head = delta_for(model, ["head.weight"], 1, 0.8)
    table = delta_for(model, ["embedding.weight"], 2, 0.8)
    live = Overlay(model)
    live.apply("head", head)
    live.apply("table", table)
    assert same_bytes(weights(model), replay(base, [head, table]))
    live.remove("head")
    assert same_bytes(weights(model), replay(base, [table]))
    both = SparseDelta((*head.weights, *table.weights))
    with pytest.raises(UnsupportedError, match="one tied weight"):
        live.apply("both", both, force=True)


def test_weights_that_cannot_be_changed_exactly_are_refused() -> None:
    delta = delta_for(tiny(torch.float32), ["linear.weight"], 1)

    def refused(weight: Tensor, words: str, kind: type[Exception] = UnsupportedError) -> None:
        model = nn.Module()
        model.linear = nn.Module()
        model.linear.weight = nn.Parameter(weight, requires_grad=False)
        with pytest.raises(kind, match=words):
            Overlay(model).apply("a", delta, force=True)

    refused(torch.zeros(8, 6, dtype=torch.int8), "quantized")
    refused(torch.zeros(8, 6, dtype=torch.float64), "quantized or otherwise special")
    refused(torch.empty(8, 6, device="meta"), "meta device")
    refused(torch.zeros(6, 8).T, "not contiguous")
    refused(torch.zeros(6, 8), r"is \(6, 8\) in the model, but \(8, 6\) in the delta", ConfigError)
    with torch.inference_mode():
        made = torch.zeros(8, 6)
    refused(made, "inference mode")
    with pytest.raises(ConfigError, match=r"no weight linear\.weight"):
        Overlay(nn.Linear(2, 2)).apply("a", delta)


def test_a_change_costs_only_its_own_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """With any number of deltas active, only the changed entries of the weight are read or written."""
    monkeypatch.setattr(overlay, "DENSE_SHARE", 9.0)
    model = tiny(torch.float32)
    live = Overlay(model)
    deltas = [delta_for(model, ["linear.weight"], seed, 0.2) for seed in range(20)]
    for number, delta in enumerate(deltas):
        live.apply(str(number), delta)
    written: list[int] = []
    real = overlay._put
    monkeypatch.setattr(overlay, "_put", lambda slot, index, new: (written.append(new.numel()), real(slot, index, new)))
    live.remove("7")
    live.apply("7", deltas[7], position=7)
    entries = len(deltas[7].weights[0].expand()[0])
    assert written == [entries, entries]


def test_the_base_hash_is_that_of_the_original_while_deltas_are_active() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.Linear(8, 6)})
    weight = model["layer"].weight
    base = sha256_tensor(weight)
    overlay = Overlay(model)
    assert overlay.base_sha256("layer.weight") == base
    factors = SparseFactors.from_factors(
        "layer.weight", torch.eye(1, 8), torch.ones(6, 1), 1.0, base_dtype=torch.float32, base_sha256=base
    )
    overlay.apply("one", SparseDelta((factors,)))
    assert sha256_tensor(weight) != base
    assert overlay.base_sha256("layer.weight") == base
