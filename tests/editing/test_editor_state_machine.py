"""Promise 7: edit facts and groups of them, undo any, redo any, reload and crash: every byte equals a naive replay."""

import contextlib
import copy
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from roselora.delta import overlay
from roselora.delta.combination import combine
from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.editing.editor import Editor
from roselora.editing.proposal import Proposal
from roselora.editing.request import EditRequest
from roselora.editing.store import delta_files, edit_store
from roselora.editing.store.schema import transaction
from roselora.files import sha256_tensor
from roselora.models import LoadedModel

SHAPES = {"linear.weight": (7, 9), "conv.weight": (6, 8), "embedding.weight": (5, 11)}
"""(d_out, d_in) of each update; the latter two weights are stored transposed."""

LAYERS: dict[str, Any] = {"linear.weight": "linear", "conv.weight": "conv1d", "embedding.weight": "embedding"}

STEPS_OF_ADDING = ["edit_store.insert_edit", "delta_files.write_atomically", "delta_files.hashlib.sha256"]


class Toy(nn.Module):
    """A linear layer, GPT-2's transposed one, and an embedding tied to a head."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(9, 7)
        self.conv = Conv1D(6, 8)
        self.embedding = nn.Embedding(11, 5)
        self.head = nn.Linear(5, 11, bias=False)
        self.head.weight = self.embedding.weight
        self.to(dtype)
        self.dtype = dtype  # as a model of transformers has it


def naive_update(factors: SparseFactors) -> Tensor:
    """The update entry by entry, in fp32: the sum over i of fl(fl(scale * b) * a), from the first to the last."""
    a, b = (factor.float() for factor in factors.to_factors())
    total = torch.zeros(b.shape[0], a.shape[1])
    for i in range(a.shape[0]):
        total = total + (b[:, i : i + 1] * torch.tensor(factors.scale)) * a[i : i + 1]
    return total.T.contiguous() if factors.transposed else total


def raw(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()


class Edits(RuleBasedStateMachine):
    dtype = torch.float32

    @initialize()
    def start(self) -> None:
        self.base = Toy(self.dtype)
        self.folder = Path(tempfile.mkdtemp())
        self.deltas: dict[str, SparseDelta] = {}  # in commit order
        self.active: set[str] = set()
        self.count = 0
        self.reload()

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def proposal(self, seed: int, names: list[str], facts: int = 1) -> Proposal:
        """A request with facts - 1 consequences, whose updates are added up as those of a group are."""
        self.count += 1
        implied = [EditRequest(f"prompt {self.count}.{number}", "target") for number in range(1, facts)]
        request = EditRequest(f"prompt {self.count}", "target", consequences=implied)
        return Proposal(request, combine([self.delta(seed + number, names) for number in range(facts)]), {})

    def delta(self, seed: int, names: list[str]) -> SparseDelta:
        generator = torch.Generator().manual_seed(seed)

        def sparse(*shape: int) -> Tensor:
            keep = torch.rand(*shape, generator=generator) < 0.4
            return torch.randn(*shape, generator=generator) * keep

        weights = []
        for name in names:
            d_out, d_in = SHAPES[name]
            base = self.base.get_parameter(name)
            weights.append(
                SparseFactors.from_factors(
                    name,
                    sparse(2, d_in),
                    sparse(d_out, 2),
                    0.3,
                    base_dtype=self.dtype,
                    base_sha256=sha256_tensor(base),
                    layer=LAYERS[name],
                )
            )
        return SparseDelta(tuple(weights))

    @rule(
        seed=st.integers(0, 10**6),
        names=st.sets(st.sampled_from(sorted(SHAPES)), min_size=1),
        facts=st.sampled_from([1, 1, 3]),
    )
    def edit(self, seed: int, names: set[str], facts: int) -> None:
        proposal = self.proposal(seed, sorted(names), facts)
        with self.editor.store.writing():
            edit = self.editor._edited.commit(proposal)
        self.deltas[edit.id] = proposal.delta
        self.active.add(edit.id)

    @precondition(lambda self: self.active)
    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        # Drawn in commit order: ids hold the time, and a run must be able to be repeated.
        edit_id = data.draw(st.sampled_from([key for key in self.deltas if key in self.active]))
        self.editor.undo(edit_id)
        self.active.remove(edit_id)

    @precondition(lambda self: len(self.active) < len(self.deltas))
    @rule(data=st.data())
    def redo(self, data: st.DataObject) -> None:
        edit_id = data.draw(st.sampled_from([key for key in self.deltas if key not in self.active]))
        self.editor.redo(edit_id)
        self.active.add(edit_id)

    @rule()
    def reload(self) -> None:
        self.editor = Editor(LoadedModel(copy.deepcopy(self.base), None, "toy"), store=self.folder)  # type: ignore[arg-type]

    @rule(
        seed=st.integers(0, 10**6),
        where=st.sampled_from(STEPS_OF_ADDING),
    )
    def stop(self, seed: int, where: str) -> None:
        """An edit that is stopped before, in or after the writing of its file; the process lives on."""
        proposal = self.proposal(seed, ["linear.weight", "embedding.weight"])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(f"roselora.editing.store.{where}", _interrupt)
            with pytest.raises(KeyboardInterrupt), self.editor.store.writing():
                self.editor._edited.commit(proposal)

    @rule(data=st.data(), seed=st.integers(0, 10**6), point=st.integers(0, 25), dies=st.booleans())
    def crash(self, data: st.DataObject, seed: int, point: int, dies: bool) -> None:
        """Any change, stopped at any step of it in the weights or the store: it is wholly there or wholly absent.

        Then the process is gone and another opens the store, or it goes on and begins its next change.
        """
        chosen = data.draw(st.sampled_from(["new", *self.deltas]))
        old = data.draw(st.sampled_from([None, *(key for key in self.deltas if key in self.active)]))
        proposal = self.proposal(seed, sorted(SHAPES), facts=1 + seed % 2)
        with _interruption(point), contextlib.suppress(KeyboardInterrupt):
            if chosen == "new":
                with self.editor.store.writing():
                    if old is not None:  # a repair: the new edit comes and the old one goes in one step
                        self.editor._edited.overlay.remove(old)
                    self.editor._edited.commit(proposal, old)
            elif chosen in self.active:
                self.editor.undo(chosen)
            else:
                self.editor.redo(chosen)
        if dies:
            self.reload()
        else:
            self.editor._edited.bring_up_to_date()
        stored = self.editor.store.edits()
        if chosen == "new" and len(stored) > len(self.deltas):
            chosen = stored[-1].id
            assert stored[-1].request == proposal.request
            self.deltas[chosen] = proposal.delta
            self.active.discard(old or "")
        active = {edit.id for edit in stored if edit.active}
        assert active ^ self.active <= {chosen}
        self.active = active

    @invariant()
    def every_byte_is_that_of_a_naive_replay(self) -> None:
        expected = {name: tensor.float() for name, tensor in self.base.state_dict().items()}
        for edit_id, delta in self.deltas.items():
            for factors in delta.weights if edit_id in self.active else ():
                expected[factors.name] = expected[factors.name] + naive_update(factors)
        expected["head.weight"] = expected["embedding.weight"]
        for name, tensor in self.editor.model.state_dict().items():
            assert raw(tensor) == raw(expected[name].to(self.dtype)), name

    @invariant()
    def the_store_agrees_and_is_whole(self) -> None:
        edits = self.editor.store.edits()
        assert [edit.id for edit in edits] == list(self.deltas)
        assert {edit.id for edit in edits if edit.active} == self.active
        assert not [problem for problem in self.editor.store.verify() if not problem.harmless]


@contextlib.contextmanager
def _interruption(point: int) -> Iterator[None]:
    """Raise KeyboardInterrupt once, at the `point`-th of the moments before and after each step of a change."""
    moments = itertools.count()

    def tick() -> None:
        if next(moments) == point:
            raise KeyboardInterrupt

    def ticking(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            tick()
            result = step(*arguments, **options)
            tick()
            return result

        return run

    @contextlib.contextmanager
    def ticking_transaction(*arguments: Any, **options: Any) -> Iterator[Any]:
        with transaction(*arguments, **options) as connection:
            yield connection
            tick()
        tick()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlay, "_put", ticking(overlay._put))
        for module, name in (
            (delta_files, "write_atomically"),
            (edit_store, "insert_edit"),
            (edit_store, "append_event"),
        ):
            patch.setattr(module, name, ticking(getattr(module, name)))
        patch.setattr(edit_store, "transaction", ticking_transaction)
        yield


def _interrupt(*arguments: Any, **options: Any) -> Any:
    raise KeyboardInterrupt


class InBfloat16(Edits):
    dtype = torch.bfloat16


class InFloat16(Edits):
    dtype = torch.float16


LIMITS = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
TestPromise7InFloat32: Callable[..., Any] = Edits.TestCase
TestPromise7InBfloat16: Callable[..., Any] = InBfloat16.TestCase
TestPromise7InFloat16: Callable[..., Any] = InFloat16.TestCase
for case in (TestPromise7InFloat32, TestPromise7InBfloat16, TestPromise7InFloat16):
    case.settings = LIMITS  # type: ignore[attr-defined]
del case  # or it would be collected too
