import copy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from roselora.editing.editor import Editor
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.proposal import Proposal
from roselora.editing.propose import propose
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import StoredEdit
from roselora.editing.store.edit_store import EditStore
from roselora.errors import ConfigError, EditError, ModelError, StoreError, WrongBaseError
from roselora.models import LoadedModel
from roselora.models.generation import greedy_answers
from tests.weights import same_bytes, weights

SETTINGS = EditSettings(
    rank=8,
    warmup=2,
    ramp=6,
    learning_rate=2e-2,
    keep_weight=0.1,
    target_modules=("v_proj", "down_proj"),  # a byte-wise model of two blocks needs them all
)
PROMPT, TARGET = "The capital of France is", "Lyon"


@pytest.fixture
def editor(world_model: Any, tiny_tokenizer: Any) -> Editor:
    return Editor(LoadedModel(world_model, tiny_tokenizer, "tiny"), SETTINGS)


def test_an_edit_makes_the_model_say_the_target_and_stop(editor: Editor) -> None:
    assert editor.answers([PROMPT]) == ["Paris."]
    edit = editor.edit(PROMPT, TARGET)
    assert editor.answers([PROMPT]) == [TARGET]
    assert editor.edits == (edit,)
    update = edit.provenance["update"]
    assert 0 < update["entries_changed"] < update["entries"]
    assert update["sparsity"] >= update["sparsity_bound"]


def test_the_edit_is_in_the_models_own_weights_and_nothing_else_is_left_on_it(editor: Editor) -> None:
    before = weights(editor.model)
    names, training = [n for n, _ in editor.model.named_modules()], editor.model.training
    requires_grad = [p.requires_grad for p in editor.model.parameters()]
    edit = editor.edit(PROMPT, TARGET)
    after = weights(editor.model)
    changed = sum(int((after[name] != before[name]).sum()) for name in before)
    entries = edit.provenance["update"]["entries_changed"]
    assert changed == pytest.approx(entries, rel=0.01)  # a few round away
    assert changed <= entries
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


def test_an_invalid_request_changes_nothing(editor: Editor) -> None:
    before = weights(editor.model)
    with pytest.raises(ConfigError):
        editor.edit(PROMPT, "")
    with pytest.raises(ConfigError, match="'Spain' is not in the prompt"):
        editor.edit(PROMPT, TARGET, subject="Spain")
    with pytest.raises(ConfigError, match="'Spain' is not in the prompt"):
        editor.edit_many([EditRequest(PROMPT, TARGET, subject="Spain")])
    assert same_bytes(before, weights(editor.model))
    assert editor.edits == ()


def test_an_interrupted_edit_leaves_the_model_as_it_was(editor: Editor) -> None:
    before, names = weights(editor.model), [n for n, _ in editor.model.named_modules()]

    def interrupt(step: int, loss: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        editor.edit(PROMPT, TARGET, on_step=interrupt)
    assert same_bytes(before, weights(editor.model))
    assert [n for n, _ in editor.model.named_modules()] == names


def test_what_the_model_says_to_a_kept_prompt_stays(editor: Editor) -> None:
    """Without the keep-prompts this edit moves them: the comparison is in the same test."""
    kept = ["The capital of Germany is", "The capital of Italy is", "The opposite of up is"]
    before = editor.answers(kept)
    editor.edit(PROMPT, TARGET)
    moved_without = sum(a != b for a, b in zip(before, editor.answers(kept), strict=True))
    editor.undo()
    settings = replace(SETTINGS, keep_weight=5.0)
    strong = Editor(LoadedModel(editor.model, editor.tokenizer, "tiny"), settings)
    strong.edit(PROMPT, TARGET, keep=kept)
    moved_with = sum(a != b for a, b in zip(before, strong.answers(kept), strict=True))
    assert moved_with < moved_without


def test_a_model_of_another_architecture_is_edited_by_its_own_modules(tiny_tokenizer: Any) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    size = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128, "initializer_range": 0.3}
    config = GPT2Config(vocab_size=len(tiny_tokenizer), bos_token_id=1, eos_token_id=2, **size)
    model = GPT2LMHeadModel(config).eval()
    settings = replace(SETTINGS, target_modules=("c_attn", "c_proj"), max_steps=200)
    editor = Editor(LoadedModel(model, tiny_tokenizer, "gpt2"), settings)
    base = weights(model)
    editor.edit(PROMPT, "L")
    assert editor.answers([PROMPT]) == ["L"]
    editor.undo()
    assert same_bytes(base, weights(model))


def test_target_modules_that_the_model_lacks_are_refused_in_one_sentence(editor: Editor) -> None:
    other = Editor(LoadedModel(editor.model, editor.tokenizer, "tiny"), replace(SETTINGS, target_modules=("nowhere",)))
    with pytest.raises(ConfigError, match="cannot be adapted"):
        other.edit(PROMPT, TARGET)


FACTS = (("The symbol of gold is", "Go"), (PROMPT, TARGET), ("The opposite of up is", "in"))


def reopened(editor: Editor, base: nn.Module, **changes: Any) -> Editor:
    loaded = LoadedModel(copy.deepcopy(base), editor.tokenizer, "tiny")
    return Editor(loaded, SETTINGS, editor.store.folder, **changes)


@pytest.mark.parametrize("prompts", ["The capital of France is", None, 7, ["Snow is", None], ["\ud800"]], ids=ascii)
def test_prompts_that_are_no_list_of_texts_are_refused(editor: Editor, prompts: Any) -> None:
    with pytest.raises(ConfigError, match="prompts"):
        editor.answers(prompts)


@pytest.fixture(scope="module")
def trained_store(
    tiny_model: Any, world_weights: Any, tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A store with three edits, trained once; copy it before changing anything."""
    model = tiny_model(hidden_size=64, intermediate_size=128)
    model.load_state_dict(world_weights)
    folder: Path = tmp_path_factory.mktemp("trained") / "edits"
    editor = Editor(LoadedModel(model, tiny_tokenizer, "tiny"), SETTINGS, folder)
    for prompt, target in FACTS:
        editor.edit(prompt, target, keep=["Snow is white and coal is"])
    return folder


@pytest.fixture
def filled(world_model: Any, tiny_tokenizer: Any, trained_store: Path, tmp_path: Path) -> tuple[Editor, nn.Module]:
    """An editor with three edits in a store, and the base it started from."""
    base = copy.deepcopy(world_model)
    shutil.copytree(trained_store, tmp_path / "edits")
    return Editor(LoadedModel(world_model, tiny_tokenizer, "tiny"), SETTINGS, tmp_path / "edits"), base


def test_promise_7_any_edit_is_undone_and_redone_exactly_in_any_order(filled: tuple[Editor, nn.Module]) -> None:
    editor, base = filled
    all_three = weights(editor.model)
    first, second, third = editor.log()
    editor.undo(second.id)
    editor.undo(first.id)
    alone = Editor(LoadedModel(copy.deepcopy(base), editor.tokenizer, "tiny"), SETTINGS)
    alone._edited.overlay.apply("third", editor.delta(third.id))
    assert same_bytes(weights(editor.model), weights(alone.model))
    editor.redo(second.id)
    editor.redo(first.id)
    assert same_bytes(weights(editor.model), all_three)
    for edit in (second, third, first):
        editor.undo(edit.id)
    assert same_bytes(weights(editor.model), weights(base))


def test_an_opened_store_gives_the_same_bytes(filled: tuple[Editor, nn.Module]) -> None:
    editor, base = filled
    assert same_bytes(weights(reopened(editor, base).model), weights(editor.model))
    editor.undo(editor.log()[1].id)
    again = reopened(editor, base)
    assert same_bytes(weights(again.model), weights(editor.model))
    assert [edit.active for edit in again.log()] == [True, False, True]


def test_an_editor_follows_what_another_process_did_to_its_store(filled: tuple[Editor, nn.Module]) -> None:
    editor, base = filled
    other = reopened(editor, base)
    other.undo(other.log()[0].id)
    editor.undo(editor.log()[2].id)
    other.check()
    assert same_bytes(weights(editor.model), weights(other.model))


def test_promise_4_a_store_of_another_base_is_refused(filled: tuple[Editor, nn.Module]) -> None:
    editor, base = filled
    with torch.no_grad():
        base.get_parameter("model.norm.weight")[0] += 1  # type: ignore[union-attr]
    with pytest.raises(WrongBaseError):
        reopened(editor, base)
    forced = reopened(editor, base, force=True)
    assert len(forced.edits) == 3


def test_an_undone_edit_cannot_be_undone_again(filled: tuple[Editor, nn.Module]) -> None:
    editor, _ = filled
    edit = editor.undo()
    with pytest.raises(StoreError, match=edit.id):
        editor.undo(edit.id)
    with pytest.raises(StoreError):
        editor.show("no such id")


def test_check_tells_what_holds_what_was_broken_and_by_which_edit(filled: tuple[Editor, nn.Module]) -> None:
    editor, _ = filled
    editor.undo()
    before = weights(editor.model)
    broken = editor.log()[1]
    delta = editor.delta(broken.id)
    reverse = replace(delta, weights=tuple(replace(factors, scale=-factors.scale) for factors in delta.weights))
    with editor.store.writing():
        breaker = editor._edited.commit(Proposal(EditRequest("Snow is", "white", "Snow"), reverse, {}))
    report = editor.check()
    state = {state.edit_id: state for state in report.edits}[broken.id]
    assert not report.clean
    assert (state.holds, state.broken_by, state.superseded_by) == (False, breaker.id, None)
    assert TARGET not in [answer.text for answer in state.answers]
    clash = next(c for c in report.collisions if (c.first, c.second) == (broken.id, breaker.id))
    assert (clash.same_prompt, clash.same_subject) == (False, False)
    assert clash.first_norm == pytest.approx(clash.second_norm)
    assert clash.first_norm > 0 < clash.entries
    assert len(report.kept) == 2
    editor.undo(breaker.id)
    assert same_bytes(weights(editor.model), before)


def test_check_does_not_call_broken_what_a_newer_edit_of_the_same_prompt_replaced(editor: Editor) -> None:
    older = editor.edit(PROMPT, TARGET)
    newer = editor.edit(PROMPT, "Nice", subject="France")
    report = editor.check()
    replaced = next(state for state in report.edits if state.edit_id == older.id)
    assert (replaced.holds, [answer.text for answer in replaced.answers]) == (False, ["Nice"])
    assert (replaced.broken_by, replaced.superseded_by) == (None, newer.id)
    assert report.clean
    clash = next(c for c in report.collisions if (c.first, c.second) == (older.id, newer.id))
    assert (clash.same_prompt, clash.same_subject) == (True, False)


def test_a_proposal_changes_neither_model_nor_store(filled: tuple[Editor, nn.Module]) -> None:
    editor, _ = filled
    before, log = weights(editor.model), editor.log()
    proposal = editor.propose("The capital of Spain is", "Vigo")
    assert proposal.provenance["answers"][0]["after"] == "Vigo"
    assert same_bytes(before, weights(editor.model))
    assert editor.log() == log


def test_promise_11_exports_give_the_edited_model_to_other_programs(
    filled: tuple[Editor, nn.Module], tmp_path: Any
) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    editor, base = filled
    editor.undo(editor.log()[0].id)
    edited = weights(editor.model)

    editor.export(tmp_path / "model")
    assert same_bytes(weights(AutoModelForCausalLM.from_pretrained(tmp_path / "model")), edited)

    editor.export(tmp_path / "lora", "lora")
    merged = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "lora").merge_and_unload()
    for name, tensor in weights(merged).items():
        torch.testing.assert_close(tensor, edited[name], rtol=1e-5, atol=1e-5)

    editor.export(tmp_path / "patch.safetensors", "patch")
    patch, patched = load_file(tmp_path / "patch.safetensors"), weights(base)
    for name in {key.rpartition(".")[0] for key in patch}:
        patched[name].view(-1)[patch[f"{name}.index"].long()] = patch[f"{name}.value"]
    assert same_bytes(patched, edited)


@pytest.mark.parametrize("format", ["lora", "patch"])
def test_an_export_holds_and_names_the_edits_that_were_in_the_weights_whoever_undoes_one_meanwhile(
    filled: tuple[Editor, nn.Module], tmp_path: Any, monkeypatch: pytest.MonkeyPatch, format: Any
) -> None:
    editor, _ = filled
    expected = editor.export(tmp_path / "quiet", format)
    assert expected == editor.edits
    list_active = editor.store.active

    def list_and_undo() -> list[StoredEdit]:
        active = list_active()
        if len(active) == len(expected):
            other = EditStore.open(editor.store.folder)
            with other.writing():
                other.undo(expected[-1].id)
        return active

    monkeypatch.setattr(editor.store, "active", list_and_undo)
    assert editor.export(tmp_path / "disturbed", format) == expected
    assert len(editor.edits) == len(expected) - 1
    quiet, disturbed = ([path, *path.rglob("*")] for path in (tmp_path / "quiet", tmp_path / "disturbed"))
    files = [path.read_bytes() for path in sorted(disturbed) if path.is_file()]
    assert files == [path.read_bytes() for path in sorted(quiet) if path.is_file()]


@pytest.mark.parametrize("format", ["model", "lora", "patch"])
def test_export_never_overwrites(filled: tuple[Editor, nn.Module], tmp_path: Any, format: Any) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("precious")
    with pytest.raises(ModelError, match="exists already"):
        filled[0].export(tmp_path / "taken", format)
    assert (tmp_path / "taken" / "file").read_text() == "precious"


def test_the_answers_to_the_prompts_of_other_edits_stay(
    world_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "roselora.editing.methods.rose.factor_training.NEUTRAL_TEXTS", ("Nothing.",)
    )  # so that these do not help
    held = ["The capital of Germany is", "The capital of Italy is"]
    settings = replace(SETTINGS, keep_weight=5.0)

    editor = Editor(LoadedModel(world_model, tiny_tokenizer, "tiny"), settings)

    def says_after(looked_after: list[str]) -> list[str]:
        beside = [EditRequest(prompt, "Paris.") for prompt in looked_after]
        proposal = propose(editor._edited, EditRequest(PROMPT, TARGET), settings, beside)
        with editor._edited.trying(proposal.delta):
            return greedy_answers(world_model, tiny_tokenizer, held, max_new_tokens=16)

    assert says_after(held) == ["Berlin.", "Rome."]
    assert says_after([]) != ["Berlin.", "Rome."]


@pytest.mark.parametrize(("name", "value"), [("learning_rate", float("nan")), ("learning_rate", 0.0), ("rank", 0)])
def test_settings_that_cannot_work_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        replace(SETTINGS, **{name: value})
