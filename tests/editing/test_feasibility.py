"""What can only fail is refused before any work."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from tokenizers import normalizers

from roselora.editing.editor import Editor
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError
from roselora.models import LoadedModel
from tests.editing.gate_edits import FACTORS, FRANCE, GOLD, SETTINGS
from tests.weights import same_bytes, weights


@pytest.mark.parametrize("target", ["Zu\u0308rich", "Bonn<|im_end|>"])
def test_a_target_that_the_tokenizer_cannot_give_back_is_refused_at_once(world: LoadedModel, target: str) -> None:
    tokenizer = copy.deepcopy(world.tokenizer)
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    steps: list[int] = []
    editor = Editor(replace(world, tokenizer=tokenizer), SETTINGS)
    with pytest.raises(ConfigError, match=r"gives the target .* back as"):
        editor.edit(FRANCE[0], target, on_step=lambda step, _: steps.append(step))
    with pytest.raises(ConfigError, match=r"gives the target .* back as"):
        editor.edit_many([EditRequest(*GOLD), EditRequest(FRANCE[0], target)])
    assert not steps
    assert not editor.log()


@pytest.fixture
def editor(world_model: Any, tiny_tokenizer: Any) -> Editor:
    return Editor(LoadedModel(world_model, tiny_tokenizer, "tiny"), FACTORS)


def test_a_rank_or_a_prompt_larger_than_the_model_is_refused_before_any_work(editor: Editor) -> None:
    before = weights(editor.model)
    with pytest.raises(ConfigError, match="rank must be at most 64"):
        Editor(LoadedModel(editor.model, editor.tokenizer, "tiny"), replace(FACTORS, rank=65)).edit(
            FRANCE[0], FRANCE[1]
        )
    for request in ({"prompt": "x" * 600}, {"prompt": FRANCE[0], "keep": ["y" * 600]}):
        with pytest.raises(ConfigError, match="reads 512; shorten it") as error:
            editor.edit(target=FRANCE[1], **request)
        assert len(str(error.value)) < 200
    assert same_bytes(before, weights(editor.model))
