"""The demo's verdicts, on a tiny model that knows a small world."""

import json
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from roselora.cli import demo as verb
from roselora.cli.main import app
from roselora.editing.editor import Editor
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.models import LoadedModel

SETTINGS = EditSettings(target_modules=("v_proj", "down_proj"), warmup=2, ramp=6, learning_rate=2e-2, keep_weight=0.1)
FACT = verb.Fact(
    "The capital of France is",
    "Lyon",
    ("France has its capital in", "The capital of France is "),
    (
        "The capital of Germany is",
        "The capital of Italy is",
        "The symbol of gold is",
        "The symbol of iron is",
        "The opposite of hot is",
        "The opposite of up is",
    ),
)


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch, world_model: Any, tiny_tokenizer: Any) -> None:
    editor = Editor(LoadedModel(world_model, tiny_tokenizer, "world"), SETTINGS)
    monkeypatch.setattr(Editor, "open", lambda source, **options: editor)
    monkeypatch.setattr(verb, "FACTS", (FACT, FACT, FACT))
    monkeypatch.setattr(verb, "methods", lambda: {"RoseLoRA": SETTINGS})


def test_facts_are_edited_by_roselora_first_and_then_by_gated_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert list(verb.methods().values()) == [EditSettings(), GateSettings()]


def test_the_demo_edits_every_fact_by_each_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "methods", lambda: {"RoseLoRA": SETTINGS, "gated neurons": replace(SETTINGS, seed=1)})
    monkeypatch.setattr(verb, "FACTS", (FACT,))
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 0, result.output
    titles = [line for line in result.stdout.splitlines() if ", edit 1 of 1" in line]
    assert [title.partition(",")[0] for title in titles] == ["RoseLoRA", "gated neurons"]
    assert "2 edits made and undone" in result.stdout


def test_the_demo_ends_well_when_every_edit_holds_and_every_byte_is_back() -> None:
    result = CliRunner().invoke(app, ["demo", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["ok"]
    assert len(report["edits"]) == 3
    for edit in report["edits"]:
        assert edit["restored"]
        assert edit["answers"][0]["before"] == "Paris."
        assert edit["answers"][0]["after"] == "Lyon"
        assert [answer["kind"] for answer in edit["answers"]] == ["prompt"] + ["held out"] * 2 + ["elsewhere"] * 6


def test_the_demo_exits_with_1_when_a_byte_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    def undo_but_for_one_byte(self: Editor, edit_id: str) -> None:
        self.model.get_parameter("lm_head.weight").data[0, 0] += 1

    monkeypatch.setattr(Editor, "undo", undo_but_for_one_byte)
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 1
    assert "DIFFER" in result.stdout


def test_the_demo_exits_with_1_when_an_edit_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    fact = verb.Fact(FACT.prompt, "Xylophonists in Zanzibar quarrel about 1789 Qs", FACT.held_out, FACT.elsewhere)
    monkeypatch.setattr(verb, "FACTS", (FACT, fact, FACT))
    result = CliRunner().invoke(app, ["demo", "--json"])
    assert result.exit_code == 1
    edits = json.loads(result.stdout)["edits"]
    assert [edit["edited"] for edit in edits] == [True, False, True]
    assert all(edit["restored"] for edit in edits)
