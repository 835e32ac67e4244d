from pathlib import Path

import numpy as np
import pytest
import yaml

from roselora.adapter.verify import MatrixCounts
from roselora.files import sha256_file
from roselora.reports.model_card import PLOT, write_card
from roselora.reports.training_plot import entry_shares, plot_training
from roselora.training.run import Finished, train
from roselora.training.settings import TrainSettings


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


@pytest.mark.parametrize("method", ["rose", "lora"])
def test_the_card_holds_what_was_measured_and_repeats_the_run(
    tiny_model_folder: Path, tmp_path: Path, method: str
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"prompt": "one and one make", "completion": " two"}\n' * 4)
    settings = TrainSettings.model_validate(
        {
            "model": str(tiny_model_folder),
            "method": method,
            "output": str(tmp_path / "out"),
            "data": {"train": str(data), "eval": str(data)},
            "training": {"max_steps": 10},
        }
    )
    outcome = train(settings)
    assert isinstance(outcome, Finished)
    plot_training(outcome, outcome.artifacts.folder / PLOT)
    assert (outcome.artifacts.folder / PLOT).read_bytes().startswith(b"\x89PNG")
    card = write_card(outcome).read_text()
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "peft"
    for fact in (
        outcome.prepared.base_fingerprint,
        sha256_file(data),
        sha256_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors"),
        f"{outcome.metrics['eval_loss']:.4f}",
        "10 in",
    ):
        assert fact in body
    if method == "rose":
        assert outcome.counts is not None
        assert f"{outcome.counts.sparsity:.4%}" in body
        assert f"{outcome.counts.sparsity_bound:.4%}" in body
        assert sha256_file(tmp_path / "out" / "delta.safetensors") in body
    config = body.split("```yaml\n")[1].split("```")[0]
    assert TrainSettings.model_validate(yaml.safe_load(config)) == settings
