"""What an edit that does not survive rounding raises."""

from dataclasses import replace
from typing import Any

import pytest

from roselora.editing import propose as proposing
from roselora.editing.editor import Editor
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.request import EditRequest
from roselora.errors import EditError
from roselora.models import LoadedModel

SETTINGS = EditSettings(
    target_modules=("v_proj", "down_proj"), warmup=2, ramp=6, learning_rate=2e-2, max_steps=60, keep_weight=0.1
)
REQUEST = EditRequest("The capital of France is", "Lyon")


@pytest.fixture
def margins(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The margins that were trained to, of edits that are all lost in rounding."""
    tried: list[float] = []
    train = proposing.train_edit

    def noting(*given: Any) -> Any:
        tried.append(given[4].margin)
        return train(*given[:4], replace(given[4], margin=1.0), *given[5:])

    monkeypatch.setattr(proposing, "train_edit", noting)
    monkeypatch.setattr(proposing, "holds", lambda answers: False)
    return tried


def propose(model: Any, tokenizer: Any) -> None:
    editor = Editor(LoadedModel(model, tokenizer, "tiny"), SETTINGS)
    proposing.propose(editor._edited, REQUEST, SETTINGS)


def test_an_edit_that_is_lost_in_rounding_is_tried_with_greater_margins_and_the_error_says_so(
    world_model: Any, tiny_tokenizer: Any, margins: list[float]
) -> None:
    with pytest.raises(EditError, match="did not survive rounding to float32, and not with 4 times the margin either"):
        propose(world_model, tiny_tokenizer)
    assert margins == [1.0, 2.0, 4.0]


def test_a_greater_margin_that_is_not_learned_does_not_hide_that_the_answer_was_lost_in_rounding(
    world_model: Any, tiny_tokenizer: Any, margins: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = proposing.train_edit

    def only_once(*given: Any) -> Any:
        if margins:
            raise EditError("The model did not learn it.")
        return train(*given)

    monkeypatch.setattr(proposing, "train_edit", only_once)
    with pytest.raises(EditError, match="did not survive rounding to float32, and 2 times the margin was not learned"):
        propose(world_model, tiny_tokenizer)
