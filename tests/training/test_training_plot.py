"""The plot of a run counts changed entries by layer and module."""

import numpy as np

from roselora.adapter.density_check import AdapterCounts, MatrixCounts
from roselora.training.training_plot import entry_shares, training_figure
from tests.plots import assert_readable


def counts(name: str, changed: int) -> MatrixCounts:
    return MatrixCounts(name, (10, 10), (1,), (1,), 1, 1, changed, 0.9)


def test_entries_are_counted_by_layer_and_module() -> None:
    layers, modules, shares = entry_shares(
        [
            counts("model.layers.0.self_attn.q_proj", 10),
            counts("model.layers.10.self_attn.q_proj", 20),
            counts("model.layers.2.mlp.down_proj", 30),
            counts("lm_head", 40),
        ]
    )
    assert layers == ["0", "2", "10", "-"]
    assert modules == ["down_proj", "lm_head", "q_proj"]
    expected = [[np.nan, np.nan, 0.1], [0.3, np.nan, np.nan], [np.nan, np.nan, 0.2], [np.nan, 0.4, np.nan]]
    np.testing.assert_array_equal(shares, expected)


def test_the_share_of_stacked_experts_is_of_all_their_entries() -> None:
    experts = MatrixCounts("model.layers.0.mlp.experts", (4, 10, 10), (1,), (1,), 1, 1, 40, 0.9)
    assert entry_shares([experts])[2].tolist() == [[0.1]]


def test_the_plot_can_be_read_on_a_phone_and_in_grey() -> None:
    names = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
    matrices = tuple(counts(f"model.layers.{layer}.{name}", layer) for layer in range(32) for name in names)
    history = [{"step": step, "loss": 2 / step} for step in range(1, 400)]
    history += [{"step": step, "eval_loss": 2.5} for step in (100, 200)]
    density = [max(0.05, 1 - step / 300) for step in range(400)]
    assert_readable(training_figure(history, density, AdapterCounts("default", 0.05, matrices)))
    assert_readable(training_figure(history, [], None))
