"""The check of a finished adapter, in a model and in a saved folder."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from roselora.adapter.density_check import verify
from roselora.adapter.factors import factor_pairs
from roselora.errors import SparsityError

Build = Callable[..., PeftModel]
Train = Callable[..., None]


def test_verify_refuses_an_adapter_that_is_dense_or_was_never_trained(adapted_model: Build, train: Train) -> None:
    model = adapted_model()
    with pytest.raises(SparsityError, match="never trained"):
        verify(model)
    train(model, torch.optim.Adam(model.parameters(), lr=1e-2), steps=3)
    with pytest.raises(SparsityError, match="not at its density"):
        verify(model)


def test_a_saved_adapter_is_verified_from_its_folder(adapted_model: Build, train: Train, tmp_path: Path) -> None:
    model = adapted_model()
    train(model, torch.optim.Adam(model.parameters(), lr=1e-2))
    model.save_pretrained(tmp_path / "adapter")
    on_disk, live = verify(tmp_path / "adapter"), verify(model)
    assert {m.name: m for m in on_disk.matrices} == {m.name: m for m in live.matrices}
    changed = sum(int((pair.b @ pair.a).count_nonzero()) for pair in factor_pairs(model, "default"))
    assert str(live).startswith(f"adapter 'default', density 0.25, 4 matrices: {changed:,} of 1,280 entries change, ")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["peft_type"] == "LORA"
