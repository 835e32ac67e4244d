"""Broken edits are replaced, and the others stay."""

from dataclasses import replace

from roselora.editing.editor import Editor
from roselora.editing.request import EditRequest
from roselora.models import LoadedModel
from tests.editing.gate_edits import FRANCE, GOLD, SETTINGS
from tests.weights import same_bytes, weights


def test_repair_replaces_a_broken_edit_and_leaves_the_rest(world: LoadedModel) -> None:
    before = weights(world.model)
    # The states of a tiny model are few and far from round: a small ridge is what keeps its gates apart.
    editor = Editor(world, replace(SETTINGS, ridge=0.1))
    broken, whole = editor.edit_many([EditRequest(*FRANCE, "France"), EditRequest(*GOLD, "gold")])
    assert editor.repair() == ()
    spoil(editor)
    assert editor.answers([FRANCE[0]]) == ["Paris."]
    assert [state.holds for state in editor.check().edits] == [False, True, True]
    (made,) = editor.repair()
    assert made.provenance["repairs"] == broken.id
    assert made.request == broken.request
    assert [edit.id for edit in editor.edits][::2] == [whole.id, made.id]
    assert editor.answers([FRANCE[0], GOLD[0]]) == ["Rome.", "Fe."]
    for edit in editor.edits:
        editor.undo(edit.id)
    assert same_bytes(weights(world.model), before)


def spoil(editor: Editor) -> None:
    """Commit another fact, which holds, with a delta that brings back what the model said of France."""
    iron = EditRequest("The symbol of iron is ", "Fe.")
    back = editor.propose(FRANCE[0], "Paris.", subject="France")
    with editor.store.writing():
        editor._edited.commit(replace(back, request=iron))
