"""Edits hold in the forms that they are made for, and every report says in which they do not."""

from dataclasses import replace
from typing import Any

import pytest

from roselora.editing.editor import Editor
from roselora.editing.forms import asked_texts
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError
from roselora.models import LoadedModel
from tests.editing.gate_edits import FACTORS
from tests.weights import same_bytes, weights

PROMPT, TARGET = "The capital of France is", "Lyon"
KEPT = "The symbol of iron is"
FORMS = ["bare", "chat", "chat, system"]


@pytest.fixture
def editor(world_model: Any, chat_tokenizer: Any) -> Editor:
    return Editor(LoadedModel(world_model, chat_tokenizer, "tiny"), replace(FACTORS, max_steps=200))


def said(editor: Editor, prompt: str = PROMPT) -> list[str]:
    """The model's answers to a prompt in all forms."""
    return editor.answers([asked.text for asked in asked_texts(editor.tokenizer, prompt, "both")])


def test_an_edit_holds_in_every_form_and_its_provenance_has_the_answers_of_each(editor: Editor) -> None:
    before, kept = said(editor), said(editor, KEPT)
    edit = editor.edit(PROMPT, TARGET, keep=[KEPT])
    assert said(editor) == [TARGET] * 3 != before
    recorded = [(a["kind"], a["form"], a["before"], a["after"]) for a in edit.provenance["answers"]]
    assert recorded == [
        *[("prompt", form, old, TARGET) for form, old in zip(FORMS, before, strict=True)],
        *[("keep", form, old, new) for form, old, new in zip(FORMS, kept, said(editor, KEPT), strict=True)],
    ]
    report = editor.check()
    assert report.clean
    assert [(answer.form, answer.text) for answer in report.edits[0].answers] == [(form, TARGET) for form in FORMS]
    assert [(answer.form, answer.before) for answer in report.kept] == list(zip(FORMS, kept, strict=True))


def test_an_edit_is_made_for_the_forms_that_are_asked_for(editor: Editor) -> None:
    edit = editor.edit(PROMPT, TARGET, form="bare")
    assert [answer["form"] for answer in edit.provenance["answers"]] == ["bare"]
    assert editor.check().clean  # whatever it says in chat
    editor.undo(edit.id)
    edit = editor.edit(PROMPT, TARGET, form="chat")
    assert said(editor)[1:] == [TARGET, TARGET]
    assert [answer["form"] for answer in edit.provenance["answers"]] == FORMS[1:]


def test_an_edit_that_holds_in_one_form_alone_is_broken_and_repaired_for_all(editor: Editor) -> None:
    bare = editor.propose(PROMPT, TARGET, form="bare")
    with editor.store.writing():
        old = editor._edited.commit(replace(bare, request=EditRequest(PROMPT, TARGET)))
    assert said(editor)[0] == TARGET != said(editor)[1]
    (state,) = editor.check().edits
    assert (state.holds, [answer.text == TARGET for answer in state.answers][:2]) == (False, [True, False])
    (new,) = editor.repair()
    assert new.provenance["repairs"] == old.id
    assert said(editor) == [TARGET] * 3
    assert editor.check().clean


def test_of_two_forms_of_one_prompt_the_newer_edit_wins(editor: Editor) -> None:
    older = editor.edit(PROMPT, TARGET, form="bare")
    newer = editor.edit(PROMPT, "Nice", form="chat")
    assert newer.provenance["supersedes"] == [older.id]
    assert editor.check().clean


def test_a_chat_without_a_template_is_refused_before_anything_is_changed(world_model: Any, tiny_tokenizer: Any) -> None:
    editor = Editor(LoadedModel(world_model, tiny_tokenizer, "tiny"), FACTORS)
    before = weights(editor.model)
    with pytest.raises(ConfigError, match="cannot be asked in chat"):
        editor.edit(PROMPT, TARGET, form="chat")
    assert same_bytes(weights(editor.model), before)
    assert editor.edits == ()


@pytest.mark.demo
def test_an_edit_of_the_demo_model_by_default_holds_in_chat_too(demo: LoadedModel) -> None:
    editor = Editor(demo)
    edit = editor.edit(PROMPT, TARGET)
    assert said(editor) == [TARGET] * 3
    editor.undo(edit.id)
