"""Whose neurons edits replace, first and when there are many."""

from collections.abc import Callable

import pytest
from transformers import PreTrainedModel

from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.layer_choice import choose_mlp, editable_mlps
from roselora.errors import ConfigError, UnsupportedError
from roselora.models.mlp_neurons import Neurons

DEEP = GateSettings(depth=0.75, lowest_depth=0.25)


@pytest.fixture
def mlps(tiny_model: Callable[..., PreTrainedModel]) -> list[Neurons]:
    return editable_mlps(tiny_model(num_hidden_layers=5), DEEP)


def test_the_preferred_block_comes_first_then_those_below_it(mlps: list[Neurons]) -> None:
    assert [mlp.block for mlp in mlps] == [3, 2, 1]


def test_the_first_block_is_never_edited(tiny_model: Callable[..., PreTrainedModel]) -> None:
    whole = GateSettings(depth=1.0, lowest_depth=0.0)
    assert [mlp.block for mlp in editable_mlps(tiny_model(num_hidden_layers=3), whole)] == [2, 1]
    with pytest.raises(UnsupportedError, match="a block below"):
        editable_mlps(tiny_model(num_hidden_layers=1), whole)


def test_a_block_is_filled_to_a_tenth_before_the_next_and_all_before_any_is_filled_further(
    mlps: list[Neurons],
) -> None:
    count = mlps[0].count
    tenth, two_tenths = -(-count // 10), -(-count // 5)
    assert choose_mlp(mlps, {}, 1).block == 3
    assert choose_mlp(mlps, {3: count // 10 - 1}, 1).block == 3
    assert choose_mlp(mlps, {3: tenth}, 1).block == 2
    assert choose_mlp(mlps, {3: tenth, 2: tenth}, 1).block == 1
    assert choose_mlp(mlps, {3: tenth, 2: tenth, 1: tenth}, 1).block == 3
    assert choose_mlp(mlps, {3: two_tenths, 2: tenth, 1: tenth}, 1).block == 2


def test_an_edit_goes_where_all_of_its_neurons_find_room(mlps: list[Neurons]) -> None:
    count = mlps[0].count
    assert choose_mlp(mlps, {2: count - 1, 3: count - 3, 1: count - 2}, 3).block == 3
    assert choose_mlp(mlps, {2: count - 1, 3: count - 3, 1: count - 2}, 4).block == 3, "the emptiest, where none has"


def test_where_all_are_nearly_full_the_emptiest_is_chosen(mlps: list[Neurons]) -> None:
    count = mlps[0].count
    assert choose_mlp(mlps, {2: count, 3: count - 1, 1: count - 2}, 1).block == 1


def test_a_preferred_depth_below_the_lowest_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"lowest_depth .0.6. must be at most depth"):
        GateSettings(depth=0.5, lowest_depth=0.6)
