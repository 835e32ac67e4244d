import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from roselora.adapter.factors import FactorPair
from roselora.editing.applied import apply_update, restore
from roselora.editing.editor import Editor
from roselora.editing.optimize import EditSettings
from roselora.errors import ConfigError, EditError, NonFiniteError
from roselora.models import LoadedModel

SETTINGS = EditSettings(warmup=2, ramp=6, max_steps=60, learning_rate=2e-2, density=0.25, keep_weight=0.1)
PROMPT, TARGET = "The capital of France is", "Lyon"


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same_bytes(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    def raw(tensor: Tensor) -> bytes:
        return tensor.contiguous().view(torch.uint8).numpy().tobytes()

    return left.keys() == right.keys() and all(raw(left[name]) == raw(right[name]) for name in left)


@pytest.fixture
def editor(world_model: Any, tiny_tokenizer: Any) -> Editor:
    return Editor(LoadedModel(world_model, tiny_tokenizer, "tiny"), SETTINGS)


def test_an_edit_makes_the_model_say_the_target_and_stop(editor: Editor) -> None:
    assert editor.answers([PROMPT]) == ["Paris."]
    edit = editor.edit(PROMPT, TARGET)
    assert editor.answers([PROMPT]) == [TARGET]
    assert editor.edits == (edit,)
    assert 0 < edit.entries_changed < edit.entries
    assert 1 - edit.entries_changed / edit.entries >= edit.sparsity_bound


def test_the_edit_is_in_the_models_own_weights_and_nothing_else_is_left_on_it(editor: Editor) -> None:
    before = weights(editor.model)
    names, training = [n for n, _ in editor.model.named_modules()], editor.model.training
    requires_grad = [p.requires_grad for p in editor.model.parameters()]
    edit = editor.edit(PROMPT, TARGET)
    after = weights(editor.model)
    changed = sum(int((after[name] != before[name]).sum()) for name in before)
    assert changed == pytest.approx(edit.entries_changed, rel=0.01)  # a few round away
    assert changed <= edit.entries_changed
    assert [n for n, _ in editor.model.named_modules()] == names
    assert [p.requires_grad for p in editor.model.parameters()] == requires_grad
    assert editor.model.training is training
    assert not hasattr(editor.model, "peft_config")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_undo_restores_every_byte(world_model: Any, tiny_tokenizer: Any, dtype: torch.dtype) -> None:
    model = world_model.to(dtype)
    editor = Editor(LoadedModel(model, tiny_tokenizer, "tiny"), SETTINGS)
    base = weights(model)
    editor.edit(PROMPT, TARGET)
    one = weights(model)
    assert not same_bytes(base, one)
    editor.edit("The symbol of gold is", "Go")
    editor.undo()
    assert same_bytes(one, weights(model))
    editor.undo()
    assert same_bytes(base, weights(model))
    with pytest.raises(EditError, match="no edit to undo"):
        editor.undo()


def test_rephrasings_hold_too(editor: Editor) -> None:
    rephrasing = "France has its capital in"
    assert editor.answers([rephrasing]) == ["Paris."]
    editor.edit(PROMPT, TARGET, rephrasings=[rephrasing])
    assert editor.answers([PROMPT, rephrasing]) == [TARGET, TARGET]


def test_the_same_seed_gives_the_same_weights_whatever_the_callers_generator(editor: Editor) -> None:
    base = copy.deepcopy(editor.model)
    editor.edit(PROMPT, TARGET)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again = Editor(LoadedModel(base, editor.tokenizer, "tiny"), SETTINGS)
    again.edit(PROMPT, TARGET)
    assert torch.equal(before, torch.get_rng_state())
    assert same_bytes(weights(editor.model), weights(again.model))


def test_an_edit_that_cannot_be_learned_changes_nothing(world_model: Any, tiny_tokenizer: Any) -> None:
    settings = EditSettings(warmup=0, ramp=0, max_steps=1, learning_rate=1e-6, density=0.25)
    editor = Editor(LoadedModel(world_model, tiny_tokenizer, "tiny"), settings)
    before = weights(editor.model)
    with pytest.raises(EditError, match="did not learn"):
        editor.edit(PROMPT, TARGET)
    assert same_bytes(before, weights(editor.model))
    assert editor.edits == ()


def test_a_request_that_cannot_be_meant_changes_nothing(editor: Editor) -> None:
    before = weights(editor.model)
    with pytest.raises(ConfigError):
        editor.edit(PROMPT, "")
    assert same_bytes(before, weights(editor.model))


def test_an_interrupted_edit_leaves_the_model_as_it_was(editor: Editor) -> None:
    before, names = weights(editor.model), [n for n, _ in editor.model.named_modules()]

    def interrupt(step: int, loss: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        editor.edit(PROMPT, TARGET, on_step=interrupt)
    assert same_bytes(before, weights(editor.model))
    assert [n for n, _ in editor.model.named_modules()] == names


def pair(a: Tensor, b: Tensor, transposed: bool = False) -> FactorPair:
    return FactorPair("layer", nn.Parameter(a), nn.Parameter(b), 2.0, transposed)


@pytest.mark.parametrize("transposed", [False, True])
def test_an_update_is_added_in_fp32_and_rounded_once(transposed: bool) -> None:
    model = nn.ModuleDict({"layer": nn.Linear(4, 3, bias=False, dtype=torch.bfloat16)})
    if transposed:
        model["layer"].weight = nn.Parameter(model["layer"].weight.detach().T.contiguous())
    before = model["layer"].weight.detach().clone()
    a, b = torch.tensor([[1.0, 0.0, 0.3, 0.0]]), torch.tensor([[0.0], [0.7], [0.0]])
    touched = apply_update(model, [pair(a, b, transposed)])
    update = 2.0 * b @ a
    expected = (before.float() + (update.T if transposed else update)).to(torch.bfloat16)
    assert torch.equal(model["layer"].weight, expected)
    assert len(touched[0].indices) == 2
    restore(model, touched)
    assert torch.equal(model["layer"].weight, before)


def test_an_update_that_is_not_finite_is_refused_and_nothing_changes() -> None:
    model = nn.ModuleDict({"layer": nn.Linear(4, 3, bias=False)})
    before = weights(model)
    good = pair(torch.ones(1, 4), torch.ones(3, 1))
    bad = pair(torch.ones(1, 4), torch.full((3, 1), torch.inf))
    with pytest.raises(NonFiniteError):
        apply_update(model, [good, bad])
    assert same_bytes(before, weights(model))
