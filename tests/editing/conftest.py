"""Fixtures of the tests that edit by gated neurons."""

from typing import Any

import pytest

from roselora.editing.methods.gate import training_texts
from roselora.models import LoadedModel


@pytest.fixture
def world(
    world_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> LoadedModel:
    # One home for all tests: what the model does in ordinary text is measured once.
    monkeypatch.setenv("ROSELORA_HOME", str(tmp_path_factory.getbasetemp() / "home"))
    monkeypatch.setattr(training_texts, "OPENINGS", ())  # of whose words this model knows none
    return LoadedModel(world_model, tiny_tokenizer, "tiny")
