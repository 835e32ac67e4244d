"""`roselora serve-check`: programs are asked in processes of their own, and said to hold, differ or not load."""

import json
import os
import re
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from roselora.cli import serve_check as command
from roselora.cli.main import app
from roselora.cli.serve_questions import questions
from roselora.editing.editor import Editor
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError, FileFormatError, ModelError
from roselora.models import load
from roselora.serving import engines, serve_check
from roselora.serving.engines import ENGINES, Engine, Export, transformers_engine
from roselora.serving.engines.asking import Reply, ask
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
    beside: tuple[str, ...] = ()
    if program == "llama.cpp":
        pytest.importorskip("xllamacpp")
        beside = ("--gguf", str(exports / "world.gguf"))
    said = checked(exports, exports / format, *beside)
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
    assert f"transformers {transformers.__version__}: differs (edits 0 of 2" in shown.stdout
    shutil.copytree(exports / "model", tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"junk")
    said = checked(exports, tmp_path / "broken")
    (found,) = said["programs"]
    assert (found["outcome"], said["code"]) == ("cannot load", 1)
    assert found["why"]
    assert "\n" not in found["why"]


def test_a_program_that_is_not_installed_is_named_with_what_installs_it() -> None:
    engine = Engine("Nowhere", "nowhere", "no_such_package", "pip install nowhere", ("model",))
    found = verdict(engine, Export("model", "path", ""), [], lambda ids: "")
    assert (found.outcome, found.why) == ("not installed", "pip install nowhere")


def test_texts_and_tokens_are_compared_with_what_was_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_check, "ask", lambda *_: Reply("1.2", [[1, 2], "Rome. ", "Lyon\nis", "Lyon\nis"]))
    names = ("12", "Rome.", "Lyon", "Lyon")
    questions = [Question(name, "bare", (5,), name, number == 2) for number, name in enumerate(names)]
    engine = Engine("Here", "here", "json", "", ("model",))
    found = verdict(engine, Export("model", "path", ""), questions, lambda ids: "".join(map(str, ids)))
    assert found.version == "1.2"
    assert [(each.edited, each.said) for each in found.differences] == [
        (False, "Lyon\nis")
    ]  # an edit ends with its line


def test_what_an_export_is_shows_in_its_files(exports: Path, tmp_path: Path) -> None:
    assert [kind_of(exports / format) for format in FORMATS] == list(FORMATS)
    assert kind_of(exports / "world.gguf") == "gguf"
    for path, why in ((tmp_path, "no export that a program loads"), (tmp_path / "missing", "does not exist")):
        with pytest.raises(FileFormatError, match=why):
            kind_of(path)
    for text in ("{", "5", "[]", "[" * 100_000):
        (tmp_path / "adapter_config.json").write_text(text)
        with pytest.raises(FileFormatError, match="not the config of an adapter"):
            kind_of(tmp_path)
    (tmp_path / "short.gguf").write_bytes(b"GGUF")
    with pytest.raises(FileFormatError, match="damaged GGUF file"):
        kind_of(tmp_path / "short.gguf")


def test_what_a_generation_config_penalizes_is_not_penalized_here(tiny_model: Any, tmp_path: Path) -> None:
    model = tiny_model()
    said = []
    for penalty in (1.0, 9.0):
        model.generation_config.repetition_penalty = penalty
        model.save_pretrained(tmp_path / str(penalty))
        said.append(transformers_engine.answers("model", str(tmp_path / str(penalty)), "", [[5, 4, 3, 200, 7]], 16))
    assert said[0] == said[1]


def test_a_program_is_asked_where_no_file_of_the_working_folder_can_stand_for_a_library(
    exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("transformers.py").write_text("raise SystemExit('taken')")
    (engine,) = [each for each in ENGINES if each.name == "transformers"]
    (answer,) = ask(engine, Export("model", str(exports / "model"), ""), [[5, 4, 3]], 2).answers
    assert len(answer) <= 2


def test_an_adapter_without_its_base_and_a_store_without_edits_are_refused(
    exports: Path, world_model: Any, tiny_tokenizer: Any
) -> None:
    with pytest.raises(ConfigError, match="name that with --gguf"):
        command._export("", exports / "gguf-lora", "gguf-lora", None)
    with pytest.raises(ConfigError, match="is not a folder here"):
        command._export("", exports / "lora", "lora", None)
    with pytest.raises(ConfigError, match="no active edit"):
        questions(world_model, tiny_tokenizer, [])


def refusal(exports: Path, *more: str) -> str:
    """The sentence that the command ends with."""
    arguments = ["serve-check", str(exports / "model"), "--store", str(exports / "edits"), *more]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code != 0
    return str(result.exception)


def test_a_program_of_another_environment_is_asked_by_its_python(exports: Path) -> None:
    said = checked(exports, exports / "model", "--python", f"Transformers={sys.executable}", "--python", "vllm=/none")
    found = {each["program"]: each for each in said["programs"]}
    assert found["transformers"]["outcome"] == "holds"
    assert found["transformers"]["version"] == transformers.__version__
    assert found["vLLM"]["why"] == "/none cannot be run (No such file or directory)."
    assert said["code"] == 1
    assert found["OpenVINO"]["outcome"] == "not installed"
    for wrong in ("vllm", "nothing=/python", "vllm=", "llama.cpp=/python"):
        assert "PROGRAM=PATH" in refusal(exports, "--python", wrong)
    assert "twice" in refusal(exports, "--python", "vllm=/a", "--python", "VLLM=/b")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 3", "It ended with code 3 and without an answer."),
        ("echo lost >&2; kill -SEGV $$", "It was ended by signal 11; its last line is 'lost'."),
        ("echo '{\"version\": ' > $4", "Its reply cannot be read."),
        ("echo '[]' > $4", "Its reply cannot be read."),
        ('echo \'{"version": 1, "answers": []}\' > $4', "It gave 0 answers to 1 prompts."),
        ('echo \'{"error": "Broken: badly"}\' > $4', "Broken: badly."),
        ("(sleep 60; echo >&2) & exit 0", "It ended with code 0 and without an answer."),
    ],
)
def test_whatever_a_process_does_is_one_sentence(tmp_path: Path, script: str, why: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    began = time.monotonic()
    with pytest.raises(ModelError) as raised:
        ask(replace(ENGINES[0], python=str(python)), Export("model", "out", ""), [[1]], 2)
    assert str(raised.value) == why
    assert time.monotonic() - began < 30


def test_another_environment_gets_none_of_our_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "${{PYTHONPATH-none}}" > {tmp_path}/seen\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}.{os.pathsep}")
    (tmp_path / "transformers.py").write_text("raise SystemExit('taken')")
    other = replace(ENGINES[0], python=str(python))
    with pytest.raises(ModelError):
        ask(other, Export("model", str(tmp_path / "nothing"), ""), [[1]], 2)
    assert (tmp_path / "seen").read_text() == "none\n"
    with pytest.raises(ModelError, match="taken"):  # an absolute entry is the user's own
        ask(ENGINES[0], Export("model", str(tmp_path / "nothing"), ""), [[1]], 2)


def test_nothing_that_is_installed_is_no_success(exports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tuple(replace(each, package="no_such_package") for each in ENGINES)
    monkeypatch.setattr("roselora.serving.engines.ENGINES", gone)
    said = checked(exports, exports / "model")
    assert {each["outcome"] for each in said["programs"]} == {"not installed"}
    assert said["code"] == 1


def test_what_cannot_be_asked_is_refused_before_any_program_is(exports: Path, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("a" * 505 + "\n")  # the model reads 512 tokens, one a letter
    assert "leaves no room for 16 tokens" in refusal(exports, "--prompts", str(tmp_path / "long.txt"))
    (tmp_path / "prompts").write_text("a\n")
    assert "no .txt, .jsonl, .json or .csv" in refusal(exports, "--prompts", str(tmp_path / "prompts"))
    assert "for a GGUF adapter" in refusal(exports, "--gguf", str(exports / "world.gguf"))
    with pytest.raises(ConfigError, match="is not there"):
        command._export("", exports / "gguf-lora", "gguf-lora", tmp_path / "missing.gguf")
    for config, why in (("[]", "no object"), ("{}", "has no adapter_model.safetensors")):
        (tmp_path / "adapter_config.json").write_text(config)
        with pytest.raises(FileFormatError, match=why):
            kind_of(tmp_path)


def test_a_model_without_a_file_of_its_tokenizer_is_refused(exports: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(exports / "model", tmp_path / "copy")
    assert command._export(str(exports / "world"), copy, "model", None).kind == "model"
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"has no tokenizer\.json, which its base has"):
        command._export(str(exports / "world"), copy, "model", None)


def test_what_follows_from_a_fact_is_asked_as_an_edit_and_no_prompt_of_one_as_another(
    tiny_model: Any, tiny_tokenizer: Any
) -> None:
    implied = EditRequest("Rome is in", "France", form="bare")
    group = EditRequest("France has", "Rome", form="bare", consequences=(implied,))
    asked = questions(tiny_model(), tiny_tokenizer, group.facts, ["Rome is in", "Gold is"])
    assert [(each.prompt, each.edited) for each in asked] == [
        ("France has", True),
        ("Rome is in", True),
        ("Gold is", False),
    ]


def test_what_programs_ask_with_needs_nothing_of_roselora() -> None:
    for module in ("child", *{engine.module for engine in ENGINES}):
        text = Path(engines.__file__).with_name(f"{module}.py").read_text()
        assert not re.search(r"^\s*(import|from) roselora", text, re.MULTILINE)


def test_a_trained_adapter_is_compared_by_prompts_of_a_file(exports: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(exports / "world")
    torch.manual_seed(0)
    trained: Any = get_peft_model(
        base, LoraConfig(r=2, lora_alpha=8, target_modules=["up_proj", "q_proj"])
    )  # names no task
    for name, parameter in trained.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    trained.save_pretrained(tmp_path / "trained")
    (tmp_path / "prompts.txt").write_text("The capital of France is\nThe symbol of gold is\n")
    whole = ("--adapter", str(tmp_path / "trained"), "--model", str(exports / "world"))
    with_prompts = (*whole, "--prompts", str(tmp_path / "prompts.txt"))
    for format in ("model", "lora"):
        done = CliRunner().invoke(app, ["export", str(tmp_path / format), "--format", format, *whole])
        assert done.exit_code == 0
        said = checked(exports, tmp_path / format, *with_prompts)
        assert (said["code"], said["questions"]) == (0, 2)
    said = checked(exports, tmp_path / "trained", *with_prompts)
    assert (said["code"], said["programs"][0]["outcome"]) == (0, "holds")
    said = checked(exports, exports / "model", *with_prompts)  # the store's
    assert said["code"] == 1
    assert "--prompts" in refusal(exports, *whole)


def test_the_others_are_asked_for_in_place_of_the_subject_also_where_it_was_only_guessed(
    tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    subjects: list[str | None] = []

    def other_subjects(model: Any, tokenizer: Any, prompt: str, subject: str | None, count: int) -> list[str]:
        subjects.append(subject)
        return []

    monkeypatch.setattr("roselora.editing.methods.gate.other_subjects.other_subjects", other_subjects)
    facts = [EditRequest("La capital de Bolivia es", "Sucre"), EditRequest("Rome is in", "Chad", subject="Rome")]
    questions(tiny_model(), tiny_tokenizer, facts)
    assert subjects == ["Bolivia", "Rome"]
