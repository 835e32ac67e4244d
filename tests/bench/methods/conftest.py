"""The text of the tiny world whose words are tokens."""

from pathlib import Path

import pytest

from tests.words import SENTENCES


@pytest.fixture
def word_text(tmp_path: Path) -> Path:
    """What the model has learnt, as a text for the covariance."""
    path = tmp_path / "sentences.txt"
    path.write_text(" <eos> ".join(SENTENCES * 4))
    return path
