"""Damaged, twisted and hostile files of every kind: one typed error or the right result, and nothing half-made."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import get_peft_model
from transformers import AutoModelForCausalLM

from roselora import RoseLoraConfig, verify
from roselora.delta.delta_file import load as load_delta
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_store import EditStore
from roselora.errors import FileFormatError, RoseLoraError
from roselora.models import load
from roselora.models.fingerprint import fingerprint
from roselora.models.generation import greedy_answers
from roselora.serving.lora_folder import import_lora
from tests.attacks.attacking import (
    damage,
    require_told,
    require_typed,
    roselora,
    some_in_ci,
    twist,
)
from tests.attacks.conftest import FACTS
from tests.models.test_demo_model import write_tiny_gguf

FACT = ("--prompt", "The capital of France is", "--target", "Rome")
QUICK = ("--method", "rose", "--max-steps", "20", "--learning-rate", "0.02", "--density", "0.25")
MODEL_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")


def spoil(path: Path, seed: int) -> None:
    """Damage a file's bytes, or if it is JSON every other time twist one of its values."""
    data = path.read_bytes()
    twisted = path.suffix == ".json" and seed % 2
    path.write_bytes(twist(json.loads(data), seed // 2).encode() if twisted else damage(data, seed // 2))


def require_whole(folder: Path, edits: int) -> None:
    """The store of a folder, if there is one, holds so many edits and nothing else."""
    if edits or (folder / "edits").exists():
        opened = EditStore.open(folder / "edits")
        assert (len(opened.edits()), opened.verify()) == (edits, [])


@pytest.mark.parametrize("seed", some_in_ci(range(48), every=16))
@pytest.mark.parametrize("file", MODEL_FILES)
def test_model_files(model: Path, tmp_path: Path, file: str, seed: int) -> None:
    spoil(model / file, seed)
    ended = roselora("edit", str(model), *FACT, *QUICK, folder=tmp_path)
    require_told(ended)
    require_whole(tmp_path, edits=int(ended.code == 0))


@pytest.mark.parametrize("seed", some_in_ci(range(24), every=12))
def test_indices_of_weight_files(model: Path, tmp_path: Path, seed: int) -> None:
    AutoModelForCausalLM.from_pretrained(model).save_pretrained(tmp_path / "parts", max_shard_size="100KB")
    shutil.rmtree(model / "model.safetensors", ignore_errors=True)
    (model / "model.safetensors").unlink()
    for path in (tmp_path / "parts").glob("model*"):
        shutil.copy(path, model)
    spoil(model / "model.safetensors.index.json", seed)
    ended = roselora("edit", str(model), *FACT, *QUICK, folder=tmp_path)
    require_told(ended)
    require_whole(tmp_path, edits=int(ended.code == 0))


@pytest.mark.parametrize("seed", some_in_ci(range(48), every=12))
def test_gguf_files(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "m.gguf"
    write_tiny_gguf(path)
    data = path.read_bytes()
    # The tensors are most of the file; what a reader can stumble over is before them.
    path.write_bytes(damage(data[:4096], seed) + data[4096:] if seed % 3 else damage(data, seed))

    def read() -> None:
        loaded = load(path)
        greedy_answers(loaded.model, loaded.tokenizer, ["ab"], max_new_tokens=2)

    require_typed(read)


@pytest.mark.parametrize("seed", some_in_ci(range(60), every=12))
def test_fact_files(model_folder: Path, tmp_path: Path, seed: int) -> None:
    facts = [{"prompt": prompt, "target": target, "rephrasings": [], "keep": ["Snow is"]} for prompt, target in FACTS]
    path = tmp_path / ("facts.json" if seed % 2 else "facts.jsonl")
    text = json.dumps(facts) if seed % 2 else "".join(json.dumps(fact) + "\n" for fact in facts)
    path.write_bytes(twist(facts, seed // 2).encode() if seed % 2 and seed % 3 else damage(text.encode(), seed // 2))
    ended = roselora("edit", str(model_folder), "--from", path.name, *QUICK, folder=tmp_path)
    require_told(ended)
    if (tmp_path / "edits").exists():
        require_told(roselora("log", "--json", folder=tmp_path))


RUN = {
    "output": "out",
    "data": {"train": "data.jsonl", "columns": {}},
    "adapter": {"rank": 2, "density": 0.5, "target_modules": ["q_proj", "down_proj"]},
    "training": {"max_steps": 2, "batch_size": 2, "learning_rate": 1e-2},
}
ROWS = [{"prompt": f"{number} and 1 make", "completion": f" {number + 1}"} for number in range(6)]
HOSTILE_YAML = (
    "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "model: !!python/object/apply:os.system ['touch hacked']\n",
    "[" * 5000 + "]" * 5000,
    "training: {seed: " + "9" * 5000 + "}\n",
    "".join(f"key{number}: 1\n" for number in range(20_000)),
    "? [a, b]\n: 1\n",
    "&x [*x]\n",
    "model: \x1b[2J\n",
    "---\na: 1\n---\nb: 2\n",
    "<<: {model: m}\n",
    "2001-01-01: 1\n",
)


def prepare_run(folder: Path, model: Path) -> None:
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "c.yaml").write_text(yaml.safe_dump({"model": str(model), **RUN}))


@pytest.mark.parametrize("seed", some_in_ci(range(72), every=12))
def test_config_files(model_folder: Path, tmp_path: Path, seed: int) -> None:
    prepare_run(tmp_path, model_folder)
    text = (tmp_path / "c.yaml").read_text()
    spoilt = twist(yaml.safe_load(text), seed // 2).encode() if seed % 2 else damage(text.encode(), seed // 2)
    (tmp_path / "c.yaml").write_bytes(spoilt)
    ended = roselora("train", "c.yaml", "--dry-run", folder=tmp_path)
    require_told(ended)
    assert {path.name for path in tmp_path.iterdir()} == {"c.yaml", "data.jsonl"}


@pytest.mark.parametrize("text", HOSTILE_YAML, ids=range(len(HOSTILE_YAML)))
def test_hostile_config_files(model_folder: Path, tmp_path: Path, text: str) -> None:
    prepare_run(tmp_path, model_folder)
    (tmp_path / "c.yaml").write_text(text)
    ended = roselora("train", "c.yaml", "--dry-run", folder=tmp_path)
    require_told(ended)
    assert ended.code
    assert {path.name for path in tmp_path.iterdir()} == {"c.yaml", "data.jsonl"}


@pytest.mark.parametrize("seed", some_in_ci(range(72), every=12))
def test_training_data(model_folder: Path, tmp_path: Path, seed: int) -> None:
    prepare_run(tmp_path, model_folder)
    kind = ("jsonl", "json", "csv")[seed % 3]
    text = {
        "jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
        "json": json.dumps(ROWS),
        "csv": "prompt,completion\n" + "".join(f"{row['prompt']},{row['completion']}\n" for row in ROWS),
    }[kind].encode()
    if kind == "json" or seed % 2 == 0:
        text = damage(text, seed // 3)
    elif kind == "jsonl":
        rows = [twist(row, seed + number) if number == seed % 6 else json.dumps(row) for number, row in enumerate(ROWS)]
        text = "\n".join(rows).encode()
    (tmp_path / f"d.{kind}").write_bytes(text)
    ended = roselora("train", "c.yaml", "--data", f"d.{kind}", folder=tmp_path)
    require_told(ended)
    assert (tmp_path / "out" / "adapter").exists() == (ended.code == 0)
    left = {"c.yaml", "data.jsonl", f"d.{kind}"} | ({"out"} if ended.code == 0 else set())
    assert {path.name for path in tmp_path.iterdir()} == left


@pytest.fixture(scope="session")
def adapter_folder(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sparse adapter of the tiny model, as it is saved."""
    config = RoseLoraConfig(r=4, density=0.25, target_modules=["q_proj", "down_proj"], total_steps=1, warmup=0, ramp=1)
    tuned = get_peft_model(tiny_model(), config)
    with torch.no_grad():
        for name, tensor in tuned.named_parameters():
            if "lora_" in name:
                tensor.zero_()
                kept = (slice(None), slice(0, 4)) if "lora_A" in name else (slice(0, 4), slice(None))
                tensor[kept] = 0.5
    folder = tmp_path_factory.mktemp("adapters") / "adapter"
    tuned.save_pretrained(folder)
    return folder


ADAPTER_FILES = ("adapter_config.json", "roselora_config.json", "adapter_model.safetensors")


@pytest.mark.parametrize("reader", ["verify", "config", "import"])
@pytest.mark.parametrize("seed", some_in_ci(range(60), every=20))
@pytest.mark.parametrize("file", ADAPTER_FILES)
def test_adapter_folders(
    adapter_folder: Path, tiny_model: Any, tmp_path: Path, file: str, seed: int, reader: str
) -> None:
    folder = Path(shutil.copytree(adapter_folder, tmp_path / "adapter"))
    spoil(folder / file, seed)
    model = tiny_model()
    before = fingerprint(model)
    readers: dict[str, Callable[[], Any]] = {
        "verify": lambda: verify(folder),
        "config": lambda: RoseLoraConfig.from_pretrained(str(folder)),
        "import": lambda: import_lora(folder, model),
    }
    require_typed(readers[reader])
    assert fingerprint(model) == before


@pytest.mark.parametrize("seed", some_in_ci(range(120), every=12))
def test_delta_files(store: Path, seed: int) -> None:
    path = sorted((store / "deltas").iterdir())[0]
    data = path.read_bytes()
    spoilt = damage(data, seed)
    path.write_bytes(spoilt)
    if spoilt == data:
        return
    with pytest.raises(FileFormatError):
        load_delta(path)


@pytest.mark.parametrize("seed", some_in_ci(range(24), every=12))
def test_deltas_of_a_store(store: Path, model_folder: Path, tmp_path: Path, seed: int) -> None:
    first = EditStore.open(store).edits()[0]
    path = store / "deltas" / f"{first.delta_sha256}.safetensors"
    path.write_bytes(damage(path.read_bytes(), seed) + b"x")
    assert roselora("verify", folder=tmp_path).code == 1
    for verb in ("check", "export", "repair"):
        ended = roselora(verb, *(["out"] if verb == "export" else []), folder=tmp_path)
        require_told(ended)
        assert ended.code == 1
        assert not (tmp_path / "out").exists()
    require_told(undone := roselora("undo", first.id, folder=tmp_path))
    assert undone.code == 0


@pytest.mark.parametrize("seed", some_in_ci(range(72), every=12))
def test_store_databases(store: Path, tmp_path: Path, seed: int) -> None:
    path = store / "edits.sqlite"
    log = roselora("log", "--json", folder=tmp_path).out
    path.write_bytes(damage(path.read_bytes(), seed))
    for verb in (["log", "--json"], ["show", "a"], ["verify"], ["diff", "a"], ["undo", "a"], ["check"]):
        ended = roselora(*verb, folder=tmp_path)
        require_told(ended)
        if verb[0] == "log" and ended.code == 0:
            assert ended.out == log


@pytest.mark.parametrize("seed", some_in_ci(range(72), every=12))
def test_what_another_program_has_stored(store: Path, model_folder: Path, tmp_path: Path, seed: int) -> None:
    opened = EditStore.open(store)
    edit = opened.edits()[0]
    text = twist(edit.provenance, seed)
    try:
        provenance = json.loads(text)
    except (RecursionError, ValueError):
        return
    if not isinstance(provenance, dict):
        return
    try:
        with opened.writing():
            opened.add(EditRequest("Snow is", "black"), opened.delta(edit.id), provenance)
    except RoseLoraError:
        return
    whole = roselora("log", "--json", folder=tmp_path)
    require_told(whole)
    for listed, stored in zip(json.loads(whole.out), opened.edits(), strict=True):
        assert (listed["id"], listed["active"], listed["prompt"]) == (stored.id, stored.active, stored.request.prompt)
    last = opened.edits()[-1].id
    for verb in (["show", last], ["show", last, "--json"], ["verify"], ["diff", last], ["check"], ["repair"]):
        require_told(roselora(*verb, folder=tmp_path))


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER UPDATE ON edits BEGIN DELETE FROM events; END",
        "CREATE TRIGGER t AFTER INSERT ON events BEGIN UPDATE edits SET active = 0; END",
        "DROP TABLE events",
        "DELETE FROM events WHERE kind = 'create'",
        "UPDATE edits SET active = 7",
        "UPDATE edits SET request = '{}'",
        "UPDATE edits SET provenance = '" + "[" * 10_000 + "'",
        "UPDATE events SET detail = NULL",
        "ALTER TABLE edits RENAME TO other",
        "ALTER TABLE edits ADD COLUMN other TEXT",
        "PRAGMA user_version = 99",
        "PRAGMA user_version = -1",
        "PRAGMA application_id = 1",
        "PRAGMA journal_mode = WAL",
        "CREATE TABLE sqlite (a)",
    ],
)
def test_hostile_databases(store: Path, tmp_path: Path, statement: str) -> None:
    database = sqlite3.connect(store / "edits.sqlite")
    try:
        database.execute("PRAGMA ignore_check_constraints = 1")
        database.execute(statement)
        database.commit()
    except sqlite3.Error:
        pytest.skip("SQLite itself refuses it")
    finally:
        database.close()
    id = EditStore.open(store).edits()[0].id if "WAL" in statement else "a"
    for verb in (["log"], ["show", id], ["verify"], ["undo", id], ["redo", id], ["log"]):
        require_told(roselora(*verb, folder=tmp_path))


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(6))
def test_measured_statistics(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setenv("ROSELORA_HOME", str(tmp_path / "home"))
    ask = ("edit", str(model_folder), *FACT, "--max-steps", "3", "--dry-run")
    right = roselora(*ask, folder=tmp_path)
    for path in (tmp_path / "home" / "ordinary").glob("*.safetensors"):
        path.write_bytes(damage(path.read_bytes(), seed))
    ended = roselora(*ask, folder=tmp_path)
    require_told(ended)
    assert (ended.code, ended.err) == (right.code, right.err)
