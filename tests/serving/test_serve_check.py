"""`roselora serve-check`: programs are asked in processes of their own, and said to hold, differ or not load."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from roselora.cli import serve_check as command
from roselora.cli.main import app
from roselora.editing.editor import Editor
from roselora.errors import ConfigError, FileFormatError
from roselora.models import LoadedModel, load
from roselora.serving import serve_check
from roselora.serving.engines import ENGINES, Engine, Export
from roselora.serving.engines.asking import ask
from roselora.serving.engines.transformers_engine import generated
from roselora.serving.exported_kind import kind_of
from roselora.serving.serve_check import Question, verdict
from tests.editing.gate_edits import FACTORS, FRANCE, GOLD
from tests.serving.tiny_gguf import write_gguf

FORMATS: tuple[Any, ...] = ("model", "lora", "gguf-lora", "mlx")


@pytest.fixture(scope="module")
def exports(world_weights: Any, tiny_model: Any, tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two edits of the tiny world, and what each format makes of it."""
    folder = tmp_path_factory.mktemp("exports")
    model = tiny_model(hidden_size=64, intermediate_size=128)
    model.load_state_dict(world_weights)
    model.save_pretrained(folder / "world")
    tiny_tokenizer.save_pretrained(folder / "world")
    write_gguf(folder / "world.gguf", model, tiny_tokenizer)
    editor = Editor(load(folder / "world"), FACTORS, folder / "edits")
    for fact, subject in ((FRANCE, "France"), (GOLD, "gold")):
        editor.edit(*fact, subject=subject)
    for format in FORMATS:
        editor.export(folder / format, format)
    return folder


def checked(exports: Path, path: Path, *more: str) -> dict[str, Any]:
    """What the command says in JSON, and its exit code."""
    arguments = ["serve-check", str(path), "--store", str(exports / "edits"), "--json", *more]
    result = CliRunner().invoke(app, arguments)
    return {"code": result.exit_code, **json.loads(result.stdout)}


@pytest.mark.parametrize(
    ("format", "program"), [("model", "transformers"), ("lora", "PEFT"), ("gguf-lora", "llama.cpp")]
)
def test_an_export_holds_in_the_programs_that_load_it(exports: Path, format: str, program: str) -> None:
    if program == "llama.cpp":
        pytest.importorskip("xllamacpp")
    said = checked(exports, exports / format, "--gguf", str(exports / "world.gguf"))
    assert said["kind"] == format
    assert said["questions"] > 2
    (found,) = [each for each in said["programs"] if each["program"] == program]
    assert (found["outcome"], found["differences"], said["code"]) == ("holds", [], 0)
    assert {each["outcome"] for each in said["programs"]} <= {"holds", "not installed"}


def test_an_export_of_other_edits_differs_and_a_broken_one_cannot_be_loaded(
    exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "roselora.serving.engines.ENGINES", tuple(each for each in ENGINES if each.name == "transformers")
    )
    said = checked(exports, exports / "world")  # without any edit
    (found,) = said["programs"]
    assert (found["outcome"], said["code"]) == ("differs", 1)
    lost = {each["prompt"]: each["said"] for each in found["differences"] if each["edited"]}
    assert lost == {FRANCE[0]: "Paris.", GOLD[0]: "Au."}
    shown = CliRunner().invoke(app, ["serve-check", str(exports / "world"), "--store", str(exports / "edits")])
    assert "transformers: differs (edits 0 of 2" in shown.stdout
    shutil.copytree(exports / "model", tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"junk")
    said = checked(exports, tmp_path / "broken")
    (found,) = said["programs"]
    assert (found["outcome"], said["code"]) == ("cannot load", 1)
    assert found["why"]
    assert "\n" not in found["why"]


def test_a_program_that_is_not_installed_is_named_with_what_installs_it() -> None:
    engine = Engine("Nowhere", "nowhere", "no_such_package", "roselora[nowhere]", ("model",))
    found = verdict(engine, Export("path", "model", ""), [], lambda ids: "")
    assert (found.outcome, found.why) == ("not installed", "pip install 'roselora[nowhere]'")


def test_texts_and_tokens_are_compared_with_what_was_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_check, "ask", lambda *_: [[1, 2], "Rome. ", "Oslo"])
    questions = [Question(name, "bare", (5,), name, edited=True) for name in ("12", "Rome.", "Lyon")]
    engine = Engine("Here", "here", "json", "", ("model",))
    found = verdict(engine, Export("path", "model", ""), questions, lambda ids: "".join(map(str, ids)))
    assert [(each.expected, each.said) for each in found.differences] == [("Lyon", "Oslo")]


def test_what_an_export_is_shows_in_its_files(exports: Path, tmp_path: Path) -> None:
    assert [kind_of(exports / format) for format in FORMATS] == list(FORMATS)
    assert kind_of(exports / "world.gguf") == "gguf"
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(FileFormatError, match="no export that a program loads"):
            kind_of(path)
    for text in ("{", "5", "[" * 100_000):
        (tmp_path / "adapter_config.json").write_text(text)
        with pytest.raises(FileFormatError, match="not the config of an adapter"):
            kind_of(tmp_path)
    (tmp_path / "short.gguf").write_bytes(b"GGUF")
    with pytest.raises(FileFormatError, match="damaged GGUF file"):
        kind_of(tmp_path / "short.gguf")


def test_what_a_generation_config_penalizes_is_not_penalized_here(tiny_model: Any) -> None:
    model = tiny_model()
    prompt = [[5, 4, 3, 200, 7]]
    expected = generated(model, prompt, 16)
    model.generation_config.repetition_penalty = 9.0
    assert generated(model, prompt, 16) == expected


def test_a_program_is_asked_where_no_file_of_the_working_folder_can_stand_for_a_library(
    exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("transformers.py").write_text("raise SystemExit('taken')")
    (engine,) = [each for each in ENGINES if each.name == "transformers"]
    (answer,) = ask(engine, Export(str(exports / "model"), "model", ""), [[5, 4, 3]], 2)
    assert len(answer) <= 2


def test_an_adapter_without_its_base_and_a_store_without_edits_are_refused(
    exports: Path, world_model: Any, tiny_tokenizer: Any
) -> None:
    editor = Editor(LoadedModel(world_model, tiny_tokenizer, ""))
    with pytest.raises(ConfigError, match="name that with --gguf"):
        command._export(editor, exports / "gguf-lora", "gguf-lora", None)
    with pytest.raises(ConfigError, match="is not a folder here"):
        command._export(editor, exports / "lora", "lora", None)
    with pytest.raises(ConfigError, match="no active edit"):
        command._questions(editor)
