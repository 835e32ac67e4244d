"""What all methods' tests need of the tiny worlds."""

from pathlib import Path

import pytest

from roselora.editing.methods.gate import training_texts
from tests.words import SENTENCES


@pytest.fixture(autouse=True)
def known_words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gated edits are trained without openings, of whose words the tiny models know none."""
    monkeypatch.setattr(training_texts, "OPENINGS", ())


@pytest.fixture
def word_text(tmp_path: Path) -> Path:
    """What the model has learnt, as a text for the covariance."""
    path = tmp_path / "sentences.txt"
    path.write_text(" <eos> ".join(SENTENCES * 4))
    return path
