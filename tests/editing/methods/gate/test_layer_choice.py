"""Whose neurons edits replace, first and when there are many."""

from collections.abc import Callable

import pytest
from transformers import PreTrainedModel

from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.layer_choice import FreeNeurons, editable_mlps
from roselora.errors import ConfigError, UnsupportedError
from roselora.models.mlp_neurons import Neurons
from roselora.models.wider_mlps import widen

DEEP = GateSettings(depth=0.75, lowest_depth=0.25)


@pytest.fixture
def deep(tiny_model: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    return tiny_model(num_hidden_layers=5)


@pytest.fixture
def mlps(deep: PreTrainedModel) -> list[Neurons]:
    return editable_mlps(deep, DEEP)


def test_the_preferred_block_comes_first_then_those_below_it(mlps: list[Neurons]) -> None:
    assert [mlp.block for mlp in mlps] == [3, 2, 1]


def test_the_first_block_is_never_edited(tiny_model: Callable[..., PreTrainedModel]) -> None:
    whole = GateSettings(depth=1.0, lowest_depth=0.0)
    assert [mlp.block for mlp in editable_mlps(tiny_model(num_hidden_layers=3), whole)] == [2, 1]
    with pytest.raises(UnsupportedError, match="a block below"):
        editable_mlps(tiny_model(num_hidden_layers=1), whole)


def chosen(model: PreTrainedModel, taken: dict[int, int], needed: int) -> int:
    """The block of the MLP that an edit takes its neurons from."""
    free = FreeNeurons(model, editable_mlps(model, DEEP), {block: range(count) for block, count in taken.items()})
    return free.take(needed).block


def test_a_block_is_filled_to_a_tenth_before_the_next_and_all_before_any_is_filled_further(deep, mlps) -> None:
    count = mlps[0].count
    tenth, two_tenths = -(-count // 10), -(-count // 5)
    assert chosen(deep, {}, 1) == 3
    assert chosen(deep, {3: count // 10 - 1}, 1) == 3
    assert chosen(deep, {3: tenth}, 1) == 2
    assert chosen(deep, {3: tenth, 2: tenth}, 1) == 1
    assert chosen(deep, {3: tenth, 2: tenth, 1: tenth}, 1) == 3
    assert chosen(deep, {3: two_tenths, 2: tenth, 1: tenth}, 1) == 2


def test_an_edit_goes_where_all_of_its_neurons_find_room(deep, mlps) -> None:
    count = mlps[0].count
    assert chosen(deep, {2: count - 1, 3: count - 3, 1: count - 2}, 3) == 3
    assert chosen(deep, {2: count - 1, 3: count - 3, 1: count - 2}, 4) == 3, "the emptiest, where none has"


def test_where_all_are_nearly_full_the_emptiest_is_chosen(deep, mlps) -> None:
    count = mlps[0].count
    assert chosen(deep, {2: count, 3: count - 1, 1: count - 2}, 1) == 1


def test_the_added_neurons_of_all_mlps_are_taken_before_any_others(deep) -> None:
    widen(deep, 7)
    free = FreeNeurons(deep, editable_mlps(deep, DEEP), {})
    before = free.most
    assert [free.take(3).block for _ in range(7)] == [3, 3, 2, 2, 1, 1, 3]
    assert free.most == before - 6, "two of the blocks have six taken"


def test_a_preferred_depth_below_the_lowest_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"lowest_depth .0.6. must be at most depth"):
        GateSettings(depth=0.5, lowest_depth=0.6)
