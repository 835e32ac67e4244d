"""The verbs on a store, run one after the other as a user does, in this process to be quick."""

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from roselora import models
from roselora.cli.main import app
from roselora.delta.sparse_delta import SparseDelta, SparseFactors
from roselora.editing import propose as proposing
from roselora.editing.editor import Editor
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.proposal import Proposal
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import BaseIdentity
from roselora.editing.store.edit_store import EditStore
from roselora.errors import ConfigError, EditError, NonFiniteError, RoseLoraError, StoreError, WrongBaseError
from roselora.models.generation import greedy_answers

TINY = ["--method", "rose", "--density", "0.5", "--learning-rate", "0.02"]
FACTS = (("The symbol of gold is", "Go"), ("The capital of France is", "Lyon"), ("The opposite of up is", "in"))

Invoke = Callable[..., Any]


@pytest.fixture
def base() -> BaseIdentity:
    """Of a model that is not there."""
    return BaseIdentity("nowhere", "LlamaForCausalLM", "ab" * 32)


@pytest.fixture
def invoke(world_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs a verb; returns its JSON, or its text for ``--text``; errors come through as they are."""
    # A byte-wise model of two blocks needs the layers of both.
    both = functools.partialmethod(EditSettings.__init__, target_modules=("v_proj", "down_proj"))
    monkeypatch.setattr(EditSettings, "__init__", both)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str, text: bool = False, code: int = 0) -> Any:
        result: Result = CliRunner().invoke(app, [*arguments, *([] if text else ["--json"])])
        if isinstance(result.exception, RoseLoraError):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.stdout if text else json.loads(result.stdout)

    return call


@pytest.fixture
def ids(invoke: Invoke) -> list[str]:
    """Three edits of the tiny world in the default store."""
    return [
        invoke("edit", "world", "--prompt", prompt, "--target", target, "--keep", "Snow is white and coal is", *TINY)[
            "id"
        ]
        for prompt, target in FACTS
    ]


def test_edits_are_kept_listed_and_shown(invoke: Invoke, ids: list[str]) -> None:
    log = invoke("log")
    assert [edit["id"] for edit in log] == ids
    assert [edit["target"] for edit in log] == ["Go", "Lyon", "in"]
    shown = invoke("show", ids[1][:5])
    answer = shown["answers"][0]
    assert (answer["kind"], answer["prompt"], answer["after"]) == ("prompt", FACTS[1][0], "Lyon")
    assert answer["before"] != "Lyon"
    assert [event["kind"] for event in shown["history"]] == ["edit"]
    for verb in (
        ["log"],
        ["diff", ids[0]],
        ["diff", ids[0], ids[1]],
    ):  # the tables; other lines are as long as they are
        assert max(map(len, invoke(*verb, text=True).splitlines())) <= 80


def test_every_report_says_in_which_form_it_asked(
    invoke: Invoke, world_folder: Path, chat_tokenizer: Any, tmp_path: Path
) -> None:
    chat_tokenizer.save_pretrained(world_folder)
    prompt, target = FACTS[1]
    fact = ["--prompt", prompt, "--target", target, "--keep", "The symbol of iron is"]
    said = invoke("edit", "world", *fact, *TINY, "--max-steps", "200", text=True)
    assert [line.split()[0] for line in said.splitlines() if "Lyon" in line] == ["prompt", "chat", "chat,"]
    (edit,) = invoke("log")
    assert edit["form"] == "both"
    assert [answer["form"] for answer in edit["answers"]] == ["bare", "chat", "chat, system"] * 2
    assert f"prompt (chat, system) {prompt}" in invoke("show", edit["id"], text=True)
    (state,) = invoke("check")["edits"]
    assert [(answer["form"], answer["text"]) for answer in state["answers"]] == [
        ("bare", "Lyon"),
        ("chat", "Lyon"),
        ("chat, system", "Lyon"),
    ]
    assert [line.split()[-2:] for line in invoke("check", text=True).splitlines()[1:4]] == [["Lyon", "holds"]] * 3
    (tmp_path / "facts.json").write_text(json.dumps([{"prompt": FACTS[0][0], "target": "Go", "form": "bare"}]))
    (made,) = invoke("edit", "world", "--from", "facts.json", *TINY)["edits"]
    assert (made["form"], [answer["form"] for answer in made["answers"]]) == ("bare", ["bare"])
    with pytest.raises(ConfigError, match="leave out --form"):
        invoke("edit", "world", "--from", "facts.json", "--form", "chat", *TINY)


def test_a_chat_that_the_template_cannot_write_is_refused_before_a_store_is_made(
    invoke: Invoke, world_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="cannot be asked in chat"):
        invoke("edit", "world", "--prompt", FACTS[1][0], "--target", "Lyon", "--form", "chat", *TINY)
    assert not (tmp_path / "edits").exists()


def test_undo_and_redo_of_any_edit_and_what_the_exported_model_says(
    invoke: Invoke, ids: list[str], tmp_path: Path
) -> None:
    prompts = [prompt for prompt, _ in FACTS]

    def exported(name: str) -> list[str]:
        invoke("export", name)
        model = AutoModelForCausalLM.from_pretrained(tmp_path / name)
        return greedy_answers(model, AutoTokenizer.from_pretrained(tmp_path / name), prompts, max_new_tokens=16)

    invoke("undo", ids[1])
    assert invoke("undo", ids[0], "--dry-run") == {"id": ids[0], "active": True, "dry_run": True}
    assert [edit["active"] for edit in invoke("log")] == [True, False, True]
    with pytest.raises(StoreError, match="undone already"):
        invoke("undo", ids[1])
    first = exported("one")
    assert first[1] != "Lyon"
    invoke("redo", ids[1])
    assert [edit["active"] for edit in invoke("log")] == [True, True, True]
    invoke("undo", ids[2])  # the weights are those of when the second edit was made, and judged
    assert exported("two")[1] == "Lyon"
    invoke("undo", ids[0])
    assert [edit["active"] for edit in invoke("log")] == [False, True, False]


def test_check_says_which_edits_hold_and_exits_with_1_if_one_does_not(
    invoke: Invoke, world_folder: Path, tmp_path: Path
) -> None:
    lyon = invoke("edit", "world", "--prompt", FACTS[1][0], "--target", "Lyon", *TINY)["id"]
    report = invoke("check")
    assert report["clean"]
    assert [edit["edit_id"] for edit in report["edits"]] == [lyon]
    newer = take_back(tmp_path, lyon)
    report = invoke("check", code=1)
    assert not report["clean"]
    assert report["edits"][0]["broken_by"] == newer
    assert report["collisions"][0]["entries"] > 0
    assert "broken" in invoke("check", text=True, code=1)


def test_an_edit_of_the_same_prompt_takes_the_place_of_the_older_and_says_so(invoke: Invoke) -> None:
    lyon = invoke("edit", "world", "--prompt", FACTS[1][0], "--target", "Lyon", *TINY)["id"]
    said = invoke("edit", "world", "--prompt", FACTS[1][0], "--target", "Nice", *TINY, text=True)
    assert f"it replaces edit {lyon}, 'Lyon'" in said
    newer = invoke("log")[1]
    assert newer["supersedes"] == [lyon]
    assert [edit["superseded_by"] for edit in invoke("log")] == [newer["id"], None]
    assert "superseded" in invoke("log", text=True)
    assert f"superseded by {newer['id']}" in invoke("show", lyon, text=True)
    assert f"replaces {lyon}" in invoke("show", newer["id"], text=True)
    report = invoke("check")
    assert report["clean"]
    assert [(edit["holds"], edit["superseded_by"]) for edit in report["edits"]] == [(False, newer["id"]), (True, None)]
    assert "superseded" in invoke("check", text=True)
    invoke("undo", newer["id"])
    assert [edit["holds"] for edit in invoke("check")["edits"]] == [True]
    assert "superseded" not in invoke("log", text=True)


def take_back(folder: Path, edit_id: str) -> str:
    """Store another fact, one that holds already, with the opposite of an edit's update."""
    editor = Editor.open(folder / "world", store=folder / "edits")
    opposite = tuple(replace(factors, scale=-factors.scale) for factors in editor.delta(edit_id).weights)
    with editor.store.writing():
        return editor.store.add(EditRequest("Snow is white and coal is", "black."), SparseDelta(opposite), {}).id


def test_repair_trains_anew_what_another_edit_has_broken(invoke: Invoke, world_folder: Path, tmp_path: Path) -> None:
    lyon = invoke("edit", "world", "--prompt", FACTS[1][0], "--target", "Lyon", *TINY, "--learning-rate", "0.01")["id"]
    assert invoke("repair")["repaired"] == []
    assert "no edit was repaired" in invoke("repair", text=True)
    take_back(tmp_path, lyon)
    (made,) = invoke("repair")["repaired"]
    assert (made["repairs"], made["prompt"], made["target"]) == (lyon, FACTS[1][0], "Lyon")
    assert [edit["active"] for edit in invoke("log")] == [False, True, True]
    assert f"repairs {lyon}" in invoke("show", made["id"], text=True)
    assert invoke("check")["edits"][1]["holds"]


def write_facts(folder: Path, *facts: tuple[str, str]) -> str:
    lines = [json.dumps({"prompt": prompt, "target": target}) for prompt, target in facts]
    (folder / "facts.jsonl").write_text("\n".join(lines) + "\n")
    return "facts.jsonl"


def test_many_facts_of_a_file_are_edits_of_their_own_and_made_once(invoke: Invoke, tmp_path: Path) -> None:
    file = write_facts(tmp_path, *FACTS[:2])
    planned = invoke("edit", "world", "--from", file, *TINY, "--dry-run")
    assert planned["edits"] == []
    assert planned["dry_run"]
    assert "2 facts would be edited" in invoke("edit", "world", "--from", file, *TINY, "--dry-run", text=True)
    done = invoke("edit", "world", "--from", file, *TINY)
    assert [edit["target"] for edit in done["edits"]] == ["Go", "Lyon"]
    assert (done["skipped"], done["failed"]) == (0, [])
    active = [edit for edit in invoke("log") if edit["active"]]
    assert sorted(edit["target"] for edit in active) == ["Go", "Lyon"]
    again = invoke("edit", "world", "--from", write_facts(tmp_path, *FACTS), *TINY)
    assert ([edit["target"] for edit in again["edits"]], again["skipped"]) == (["in"], 2)
    assert "3 of 3 facts are already in the store" in invoke("edit", "world", "--from", file, *TINY, text=True)


def test_a_fact_that_was_superseded_is_edited_again_and_one_that_stands_there_thrice_once(
    invoke: Invoke, tmp_path: Path
) -> None:
    prompt = FACTS[1][0]
    done = invoke("edit", "world", "--from", write_facts(tmp_path, (prompt, "Lyon"), (prompt, "Nice")), *TINY)
    assert len(done["edits"]) == 2
    done = invoke("edit", "world", "--from", write_facts(tmp_path, *[(prompt, "Lyon")] * 3), *TINY)
    assert ([edit["target"] for edit in done["edits"]], done["skipped"]) == (["Lyon"], 2)
    states = {
        edit["prompt"] + edit["target"]: [answer["text"] for answer in edit["answers"]]
        for edit in invoke("check")["edits"]
    }
    assert states == {prompt + "Lyon": ["Lyon"], prompt + "Nice": ["Lyon"]}


def test_a_run_that_was_stopped_before_its_repair_is_repaired_by_the_same_command(
    invoke: Invoke, tmp_path: Path
) -> None:
    file = write_facts(tmp_path, FACTS[1])
    (made,) = invoke("edit", "world", "--from", file, *TINY)["edits"]
    take_back(tmp_path, made["id"])
    again = invoke("edit", "world", "--from", file, *TINY)
    assert [edit["repairs"] for edit in again["repaired"]] == [made["id"]]


def test_a_fact_that_fails_is_told_of_and_the_others_are_made(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def propose(edited: Any, request: EditRequest, *rest: Any) -> Proposal:
        if request.target == "Go":
            raise EditError("The model did not learn it.")
        return proposing.propose(edited, request, *rest)

    monkeypatch.setattr("roselora.editing.many_edits.propose", propose)
    file = write_facts(tmp_path, *FACTS[:2])
    done = invoke("edit", "world", "--from", file, *TINY, code=1)
    assert [edit["target"] for edit in done["edits"]] == ["Lyon"]
    assert done["failed"] == [{"prompt": FACTS[0][0], "target": "Go", "reason": "The model did not learn it."}]
    said = invoke("edit", "world", "--from", file, *TINY, text=True, code=1)
    assert "failed: The symbol of gold is -> Go: The model did not learn it." in said


def test_an_invalid_file_of_facts_changes_nothing(invoke: Invoke, tmp_path: Path) -> None:
    for wrong, said in ((("a" * 600, "b"), "the model reads 512"), (("a", "b<|im_end|>"), "gives the target")):
        file = write_facts(tmp_path, FACTS[0], wrong)
        for dry_run in ([], ["--dry-run"]):
            with pytest.raises(ConfigError, match=said):
                invoke("edit", "world", "--from", file, *TINY, *dry_run)
    with pytest.raises(ConfigError, match="lone surrogate"):
        invoke("edit", "world", "--prompt", "a \udcff is", "--target", "b", *TINY)
    assert not Path("edits").exists()
    with pytest.raises(ConfigError, match="leave out --prompt"):
        invoke("edit", "world", "--from", file, "--prompt", "a", *TINY)
    with pytest.raises(ConfigError, match="needs --target"):
        invoke("edit", "world", "--prompt", "a", *TINY)


def test_diff_tells_what_changed_between_edits_stores_and_models(invoke: Invoke, ids: list[str]) -> None:
    changes = invoke("diff", ids[0])
    assert {change["name"].rpartition(".proj")[0] or change["name"] for change in changes}
    assert all(0 < change["share"] < 1 and change["norm"] > 0 and change["largest"] for change in changes)
    assert invoke("diff", ids[0], ids[1])["shared"]

    invoke("edit", "world", "--prompt", "The symbol of iron is", "--target", "Ir", *TINY, "--store", "other")
    between = invoke("diff", "edits", "other")
    assert (between["both"], len(between["first"]), len(between["second"])) == (0, 3, 1)

    invoke("export", "edited")
    against_base = invoke("diff", "world", "edited")
    assert {change["name"] for change in against_base} == {change["name"] for change in changes}
    assert invoke("diff", "edited", "edited") == []


@pytest.mark.parametrize("format", ["lora", "patch"])
def test_other_exports_are_written_once(invoke: Invoke, ids: list[str], tmp_path: Path, format: str) -> None:
    assert invoke("export", "there", "--format", format, "--dry-run")["edits"] == ids
    assert not (tmp_path / "there").exists()
    assert invoke("export", "there", "--format", format)["edits"] == ids
    assert (tmp_path / "there").exists()
    for dry_run in ([], ["--dry-run"]):
        with pytest.raises(RoseLoraError, match="exists already"):
            invoke("export", "there", "--format", format, *dry_run)
    said = invoke("export", "another", "--format", format, text=True)
    assert ("serve it: vllm serve" in said) == (format == "lora")


@pytest.mark.parametrize("format", ["model", "lora", "gguf-lora", "mlx", "patch"])
def test_a_trained_adapter_whose_alpha_is_not_its_rank_is_exported_too(
    invoke: Invoke, world_folder: Path, base: BaseIdentity, tmp_path: Path, format: str
) -> None:
    loaded = models.load(world_folder)
    trained = get_peft_model(loaded.model, LoraConfig(r=4, lora_alpha=8, target_modules=["down_proj"]))
    for name, parameter in trained.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    trained.save_pretrained(tmp_path / "adapter")
    export = ("export", "there", "--format", format, "--adapter", "adapter")
    assert invoke(*export, "--dry-run")["adapter"] == "adapter"
    assert not Path("there").exists()
    invoke(*export)
    merged = trained.merge_and_unload().state_dict()
    if format == "model":
        found = models.load(tmp_path / "there").model.state_dict()
        assert all(torch.allclose(found[name], weight, atol=1e-6) for name, weight in merged.items())
    if format == "lora":
        config = json.loads(Path("there/adapter_config.json").read_text())
        assert (config["r"], config["lora_alpha"]) == (4, 4)
    with pytest.raises(RoseLoraError, match="exists already"):
        invoke(*export)
    with pytest.raises(RoseLoraError, match="within the adapter's own folder"):
        invoke("export", "adapter/in", "--adapter", "adapter")
    EditStore.open(tmp_path / "edits", base, create=True)
    with pytest.raises(RoseLoraError, match="within the edit store"):
        invoke("export", "edits/in", "--adapter", "adapter")
    config = json.loads(Path("adapter/adapter_config.json").read_text())
    for named, words in ((None, "names no base model"), ("someone/gone", "not on this machine")):
        Path("adapter/adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": named}))
        with pytest.raises(StoreError, match=words):
            invoke("export", "elsewhere", "--adapter", "adapter")
    invoke("export", "elsewhere", "--format", format, "--adapter", "adapter", "--model", "world")


def test_an_export_names_the_edits_that_it_wrote_though_one_is_undone_while_the_model_is_loaded(
    invoke: Invoke, ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = models.load

    def undo_and_load(*arguments: Any, **options: Any) -> models.LoadedModel:
        invoke("undo", ids[1])
        return load(*arguments, **options)

    monkeypatch.setattr(models, "load", undo_and_load)
    assert invoke("export", "there")["edits"] == [ids[0], ids[2]]


def test_what_cannot_be_exported_is_refused_before_the_model_is_loaded_and_in_a_dry_run_too(
    invoke: Invoke, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(models, "load")
    Path("empty").mkdir()
    refused = (
        (["world/edited"], "within the folder of the base model"),
        (["edits/out"], "within the edit store"),
        (["empty", "--format", "patch"], "a patch is a file"),
    )
    for arguments, words in refused:
        for dry_run in ([], ["--dry-run"]):
            with pytest.raises(RoseLoraError, match=words):
                invoke("export", *arguments, *dry_run)
    for edit in ids:
        invoke("undo", edit)
    with pytest.raises(EditError, match="no active edit to export"):
        invoke("export", "there", "--format", "lora", "--dry-run")


def test_a_dry_run_trains_and_shows_and_keeps_nothing(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("edit", "world", "--prompt", FACTS[1][0], "--target", "Lyon", *TINY, "--dry-run")
    assert result["answers"][0]["after"] == "Lyon"
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


@pytest.mark.parametrize("content", [None, "thesis.tex"])
def test_a_dry_run_makes_no_store_where_there_is_none_and_is_refused_where_none_can_be(
    invoke: Invoke, tmp_path: Path, content: str | None
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    arguments = ["edit", "world", "--from", write_facts(tmp_path, FACTS[1]), *TINY, "--store", "empty"]
    if content is None:
        assert invoke(*arguments, "--dry-run")["dry_run"]
        assert list(folder.iterdir()) == []
        return
    (folder / content).write_text("dear")
    for dry_run in ([], ["--dry-run"]):
        with pytest.raises(StoreError, match="holds other things"):
            invoke(*arguments, *dry_run)
    assert [path.name for path in folder.iterdir()] == [content]


def test_what_another_program_put_into_the_provenance_overrides_nothing_and_breaks_nothing(
    invoke: Invoke, ids: list[str], tmp_path: Path
) -> None:
    store, strange = EditStore.open(tmp_path / "edits"), {"id": "other", "active": False, "position": 99, "prompt": "x"}
    for value in (None, 7, "x", [], {}, [{"kind": "keep"}]):
        strange |= dict.fromkeys(("answers", "update", "training", "settings", "versions", "supersedes"), value)
        with store.writing():
            added = store.add(EditRequest(FACTS[0][0], "Go"), store.delta(ids[0]), strange)
        shown = invoke("show", added.id)
        assert (shown["id"], shown["active"], shown["prompt"]) == (added.id, True, FACTS[0][0])
        assert shown["position"] == added.position == invoke("log")[-1]["position"]
        assert added.id in invoke("show", added.id, text=True)


def test_promise_3_an_undo_after_which_the_others_are_too_much_is_refused_dry_or_not(
    invoke: Invoke, tmp_path: Path, base: BaseIdentity
) -> None:
    store = EditStore.open(tmp_path / "edits", base, create=True)
    with store.writing():
        made = []
        for value in (6e4, -6e4, 6e4):
            factors = SparseFactors.from_factors(
                "w", torch.tensor([[value]]), torch.ones(1, 1), 1.0, base_dtype=torch.float16, base_sha256="0" * 64
            )
            made.append(store.add(EditRequest("a", "b"), SparseDelta((factors,)), {}).id)
    for dry_run in ([], ["--dry-run"]):
        with pytest.raises(NonFiniteError, match="nothing was changed"):
            invoke("undo", made[1], *dry_run)
    assert [edit.active for edit in store.edits()] == [True] * 3


def test_promise_10_a_base_that_was_named_by_a_relative_path_is_found_from_every_folder(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoke("edit", "world", "--prompt", FACTS[1][0], "--target", "Lyon", *TINY)
    (tmp_path / "elsewhere" / "world").mkdir(parents=True)  # which is not the base
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert invoke("check", "--store", "../edits")["clean"]
    (tmp_path / "world").rename(tmp_path / "moved")
    for verb in (["check"], ["repair"], ["export", "out"]):
        with pytest.raises(StoreError, match=r"made for the base model .*world, which is not on .* --model"):
            invoke(*verb, "--store", "../edits")
    assert invoke("check", "--store", "../edits", "--model", "../moved")["clean"]


@pytest.mark.parametrize(
    "name", ["owner/model", "world", "./world", "models/world", "minilm", "../world", "gpt2", "/x" * 3000]
)
def test_promise_10_a_model_that_only_a_store_names_is_neither_fetched_nor_looked_for_here(
    invoke: Invoke, tmp_path: Path, base: BaseIdentity, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    EditStore.open(tmp_path / "theirs", replace(base, name=name), create=True)
    monkeypatch.setattr("roselora.cli.stores.working", _not_reached)
    for verb in (["check"], ["repair"], ["export", "out"]):
        with pytest.raises(StoreError, match=f"made for the base model {name}, which is not on .* --model"):
            invoke(*verb, "--store", "theirs")


def _not_reached(*_: Any) -> Any:
    raise AssertionError("A model was about to be loaded.")


def test_the_edits_of_one_base_are_applied_to_another_if_that_is_forced(invoke: Invoke, tmp_path: Path) -> None:
    lyon = invoke("edit", "world", "--prompt", FACTS[1][0], "--target", "Lyon", *TINY)["id"]
    other = AutoModelForCausalLM.from_pretrained(tmp_path / "world")
    with torch.no_grad():
        other.get_parameter("model.norm.weight")[0] += 1e-4
    other.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(tmp_path / "world").save_pretrained(tmp_path / "other")
    with pytest.raises(WrongBaseError, match=r"--model.*--force"):
        invoke("check", "--model", "other")
    assert [edit["edit_id"] for edit in invoke("check", "--model", "other", "--force")["edits"]] == [lyon]


def test_notes_become_part_of_the_history(invoke: Invoke, ids: list[str]) -> None:
    assert invoke("note", ids[0], "for later", "--dry-run")["dry_run"]
    invoke("note", ids[0], "agreed with the editors")
    with pytest.raises(ConfigError, match="note is empty"):
        invoke("note", ids[0], " \n")
    notes = [event["text"] for event in invoke("show", ids[0])["history"] if event["kind"] == "note"]
    assert notes == ["agreed with the editors"]


def test_verify_and_doctor_find_a_changed_file_and_exit_with_1(invoke: Invoke, ids: list[str], tmp_path: Path) -> None:
    assert invoke("verify") == {"whole": True, "problems": [], "removed": []}
    assert invoke("doctor")["store"]["state"] == "whole"
    stray = tmp_path / "edits" / "deltas" / f"{'0' * 64}.safetensors"
    stray.write_bytes(b"left by a crash")
    assert invoke("verify")["problems"][0]["harmless"]
    killed = tmp_path / ".merged.0123456789abcdef.staging"
    (killed / "made").mkdir(parents=True)
    assert invoke("verify", "--collect")["removed"] == [str(stray), str(killed)]
    assert not stray.exists()
    assert not killed.exists()

    path = next((tmp_path / "edits" / "deltas").iterdir())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert not invoke("verify", code=1)["whole"]
    assert invoke("doctor", code=1)["store"]["serious"]


def test_a_store_of_another_model_is_refused(invoke: Invoke, ids: list[str], tmp_path: Path, tiny_model: Any) -> None:
    tiny_model(seed=5).save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(tmp_path / "world").save_pretrained(tmp_path / "other")
    with pytest.raises(WrongBaseError, match=r"edits of .*world"):
        invoke("edit", "other", "--prompt", "a", "--target", "b")


def test_an_edit_that_fails_keeps_nothing(invoke: Invoke, ids: list[str]) -> None:
    with pytest.raises(RoseLoraError, match="did not learn"):
        invoke("edit", "world", "--prompt", "a", "--target", "b", "--learning-rate", "1e-9", "--max-steps", "15")
    assert len(invoke("log")) == 3
    with pytest.raises(ConfigError):
        invoke("edit", "world", "--prompt", "a", "--target", "")


@pytest.mark.parametrize("named", [(), ("--model", "world")])
@pytest.mark.parametrize("verb", [("check",), ("repair",), ("export", "out")])
def test_a_store_that_is_not_there_is_refused_and_none_is_made(
    invoke: Invoke, tmp_path: Path, verb: tuple[str, ...], named: tuple[str, ...]
) -> None:
    with pytest.raises(StoreError, match="There is no edit store in nowhere"):
        invoke(*verb, "--store", "nowhere", *named)
    assert not (tmp_path / "nowhere").exists()


def test_a_base_that_was_loaded_in_another_dtype_is_told_as_that(tiny_model_folder: Path, tmp_path: Path) -> None:
    Editor.open(tiny_model_folder, store=tmp_path / "edits", dtype="float32")
    with pytest.raises(WrongBaseError, match=r"in float32, and .* in bfloat16; load it in float32 \(--dtype float32"):
        Editor.open(tiny_model_folder, store=tmp_path / "edits", dtype="bfloat16")
