"""What is shown of one edit, and under which name."""

import pytest

from roselora.cli.edit_display import show_answers, show_update
from roselora.cli.stores import edit_as_json
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import StoredEdit
from roselora.editing.store.provenance import read_provenance

UPDATE = {"entries_changed": 40, "entries": 4000, "sparsity": 0.99, "sparsity_bound": 0.98}


@pytest.mark.parametrize("method", ["gate", "rose"])
def test_proposition_1_is_spoken_of_for_roseloras_edits_alone(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_update({"method": method, "update": UPDATE, "training": {"steps": 3, "seconds": 1.0}}, 10_000)
    said = capsys.readouterr().out
    assert ("Proposition 1" in said) == (method == "rose")
    assert ("gated neuron edit" in said) == (method == "gate")
    assert ("RoseLoRA" in said) == (method == "rose")


@pytest.mark.parametrize(("stored", "today"), [("roselora-neurons", "gate"), ("roselora", "rose"), ("gate", "gate")])
def test_what_an_earlier_version_stored_is_shown_under_todays_name(stored: str, today: str) -> None:
    request = EditRequest("The capital of France is", "Lyon")
    edit = StoredEdit(1, "0123456789ab", request, "0" * 64, {"method": stored}, "2026-01-01T00:00:00+00:00", True)
    assert read_provenance(edit.provenance).method == today
    assert edit_as_json(edit)["method"] == today


def test_keep_prompts_that_moved_are_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    edited = {
        "kind": "prompt",
        "prompt": "The capital of Spain is",
        "form": "bare",
        "before": "Madrid.",
        "after": "Toledo",
    }
    kept = {"kind": "keep", "prompt": "The capital of Italy is", "form": "bare", "before": "Rome.", "after": "Rome."}
    show_answers([edited, kept], "Toledo")
    show_answers([edited, {**kept, "before": "", "after": ""}], "Toledo")
    assert "changed" not in capsys.readouterr().out
    show_answers([edited, kept, {**kept, "after": "Toledo"}], "Toledo")
    assert "1 of 2 answers to keep-prompts changed" in capsys.readouterr().out
    show_answers([{**edited, "before": "Toledo"}, kept], "Toledo")
    assert "answered with the target already" in capsys.readouterr().out


def test_each_form_of_a_prompt_has_a_row_below_the_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"kind": "prompt", "prompt": "The capital of Spain is", "before": "Madrid.", "after": "Toledo"}
    show_answers([{**asked, "form": form} for form in ("bare", "chat", "chat, system")], "Toledo")
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split("Madrid")[0].split() for row in rows] == [
        ["prompt", "The", "capital", "of", "Spain", "is"],
        ["chat"],
        ["chat,", "system"],
    ]
    show_answers([{**asked, "form": "chat"}], "Toledo")
    assert "(chat)" in capsys.readouterr().out
