"""Exports: read back before they appear, in the checkpoint's own names, only where allowed, and never half-written."""

import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from roselora.delta.layer_kinds import layer_factors
from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.editor import Editor
from roselora.errors import ConfigError, EditError, ModelError, UnsupportedError
from roselora.models import LoadedModel, load
from roselora.models.saved_weights import SavedWeights
from roselora.serving import edit_export, merged_folder
from roselora.serving.applied_patch import apply_patch
from roselora.serving.edit_export import Edited, export_edits, require_exportable
from tests.models import kinds
from tests.weights import same_bytes, weights

MOE = {**kinds.LLAMA_LIKE, "vocab_size": 300}
CHECKPOINTS = {
    "llama": (MOE, "model.layers.1.self_attn.q_proj", "lm_head.weight"),
    "gpt_neox": (
        {**kinds.KINDS["gpt_neox"], "vocab_size": 300},
        "gpt_neox.layers.1.attention.dense",
        "embed_out.weight",
    ),
    "mixtral": (
        {**MOE, "num_local_experts": 4},
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.block_sparse_moe.experts.3.w1.weight",
    ),
    "qwen3_moe": (
        {**MOE, "num_experts": 4, "moe_intermediate_size": 16, "num_experts_per_tok": 2},
        "model.layers.1.self_attn.v_proj",
        "model.layers.1.mlp.experts.3.up_proj.weight",
    ),
}
TOKENS = torch.tensor([[5, 4, 3, 200, 7]])


def delta(model: PreTrainedModel, module: str, rank: int, scale: float = 1.0) -> SparseDelta:
    """A random update of one layer, large enough to show."""
    layer = model.get_submodule(module)
    assert isinstance(layer, torch.nn.Linear)
    generator = torch.Generator().manual_seed(rank)
    A = torch.randn(rank, layer.in_features, generator=generator)
    B = torch.randn(layer.out_features, rank, generator=generator)
    return SparseDelta((layer_factors(module, layer, A, B, scale),))


def apply(model: PreTrainedModel, *deltas: SparseDelta) -> Overlay:
    overlay = Overlay(model)
    for number, update in enumerate(deltas):
        overlay.apply(str(number), update, number)
    return overlay


def export(model: PreTrainedModel, tokenizer: Any, deltas: Sequence[SparseDelta], path: Path, format: Any) -> None:
    """Export deltas that are in the weights only meanwhile."""
    overlay = apply(model, *deltas)
    try:
        export_edits(Edited(model, tokenizer, overlay, deltas), path, format)
    finally:
        for number in range(len(deltas)):
            overlay.remove(str(number))


def saved(kind: str, tokenizer: Any, folder: Path, **settings: Any) -> LoadedModel:
    """A small random model, written to a folder and loaded from there."""
    kinds.model(kind, **settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load(folder)


def names(folder: Path) -> set[str]:
    with safe_open(folder / "model.safetensors", framework="pt") as saved:
        return set(saved.keys())


@pytest.fixture
def tiny(tiny_model_folder: Path) -> LoadedModel:
    return load(tiny_model_folder)


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_model_of_any_architecture_is_exported_whole_in_the_names_of_its_checkpoint(
    tiny_tokenizer: Any, tmp_path: Path, kind: str
) -> None:
    settings, layer, known = CHECKPOINTS[kind]
    base = saved(kind, tiny_tokenizer, tmp_path / "base", **settings)
    update = delta(base.model, layer, rank=2)
    edited = Edited(base.model, base.tokenizer, apply(base.model, update), [update])
    export_edits(edited, tmp_path / "out", "model")
    assert known in names(tmp_path / "base") == names(tmp_path / "out")
    assert same_bytes(weights(load(tmp_path / "out").model), weights(base.model))


@pytest.mark.parametrize("kind", ["llama", "mixtral"])
@pytest.mark.parametrize("harm", [lambda weight: weight.add_(1), lambda weight: weight.zero_()], ids=["moved", "zero"])
def test_an_export_that_reads_back_differently_is_deleted(
    tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, harm: Callable[[torch.Tensor], Any]
) -> None:
    settings, layer, _ = CHECKPOINTS[kind]
    model = kinds.model(kind, **settings)
    write_model = merged_folder.write_model

    def write_another(model: PreTrainedModel, tokenizer: Any, folder: Path) -> None:
        weight = model.get_parameter(f"{layer}.weight")
        before = weight.detach().clone()
        with torch.no_grad():
            harm(weight)
            write_model(model, tokenizer, folder)
            weight.copy_(before)

    monkeypatch.setattr(merged_folder, "write_model", write_another)
    with pytest.raises(EditError, match="not what was written"):
        export(model, tiny_tokenizer, [], tmp_path / "new" / "out", "model")
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_of_edits_of_several_ranks_finds_its_base_and_gives_the_edited_models_outputs(
    tiny: LoadedModel, tmp_path: Path
) -> None:
    deltas = [
        delta(tiny.model, "model.layers.0.mlp.down_proj", 3, scale=0.7),
        delta(tiny.model, "model.layers.0.mlp.down_proj", 5, scale=0.3),
        delta(tiny.model, "model.layers.1.self_attn.q_proj", 2, scale=-1.1),
    ]
    export(tiny.model, tiny.tokenizer, deltas, tmp_path / "out", "lora")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (8, 8, "CAUSAL_LM")
    assert config["base_model_name_or_path"] == tiny.name
    before = tiny.model(TOKENS).logits
    apply(tiny.model, *deltas)
    edited = tiny.model(TOKENS).logits
    assert not torch.allclose(edited, before, atol=0.1)
    with_adapter = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(with_adapter(TOKENS).logits, edited, rtol=1e-4, atol=1e-3)


def test_a_base_named_by_a_relative_path_is_named_in_full_in_an_adapter(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_model_folder.parent)
    base = load(tiny_model_folder.name)
    export(base.model, base.tokenizer, [delta(base.model, "model.layers.0.mlp.up_proj", 2)], tmp_path / "out", "lora")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny_model_folder)


FULL = {
    "safetensors": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    "tokenizers": Exception("No space left on device (os error 28)"),
    "system": OSError(28, "No space left on device", "/somewhere/.lock"),
}


@pytest.mark.parametrize("error", FULL.values(), ids=list(FULL))
@pytest.mark.parametrize(
    ("format", "step"),
    [
        ("model", "write_merged"),
        ("lora", "export_lora"),
        ("gguf-lora", "export_gguf_lora"),
        ("mlx", "export_mlx"),
        ("patch", "export_patch"),
    ],
)
def test_a_full_disk_is_one_sentence_in_any_librarys_type_and_leaves_nothing(
    tiny: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, format: Any, step: str
) -> None:
    write = getattr(edit_export, step)

    def fill(*arguments: Any, **options: Any) -> None:
        write(*arguments, **options)
        raise error

    monkeypatch.setattr(edit_export, step, fill)
    deltas = [delta(tiny.model, "model.layers.0.mlp.up_proj", 2)]
    with pytest.raises(ModelError) as caught:
        export(tiny.model, tiny.tokenizer, deltas, tmp_path / "new" / "out", format)
    assert f"{tmp_path / 'new' / 'out'} could not be written (No space left on device" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "staging" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["model", "lora", "gguf-lora", "mlx", "patch"])
def test_nothing_is_exported_into_the_base_models_own_folder(
    tiny_tokenizer: Any, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: Any
) -> None:
    tiny_model().save_pretrained(tmp_path / "base")
    tiny_tokenizer.save_pretrained(tmp_path / "base")
    (tmp_path / "other").symlink_to(tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    base = load("base")
    deltas = [delta(base.model, "model.layers.0.mlp.up_proj", 2)]
    before = sorted((tmp_path / "base").iterdir())
    for place in ("base/model-00002.safetensors", "base/a/b", "other/edited"):
        with pytest.raises(ModelError, match="within the folder of the base model"):
            export(base.model, base.tokenizer, deltas, Path(place), format)
    assert sorted((tmp_path / "base").iterdir()) == before


def test_a_link_stays_a_link_and_a_tilde_is_the_home_folder(
    tiny: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for link, target in (("to-empty", "empty"), ("to-nothing", "later")):
        Path(link).symlink_to(target)
        export(tiny.model, tiny.tokenizer, [], Path(link), "model")
        assert Path(link).is_symlink()
        assert names(tmp_path / target) == names(Path(link))
    export(tiny.model, tiny.tokenizer, [], Path("~/merged"), "model")
    assert names(tmp_path / "home" / "merged")
    assert not Path("~").exists()


@pytest.mark.parametrize("format", ["model", "lora", "gguf-lora", "mlx", "patch"])
def test_a_path_that_cannot_be_created_is_refused_in_one_sentence_and_left_alone(
    tiny: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "loop").symlink_to("loop")
    here = tmp_path / "here"
    here.mkdir()
    deltas = [delta(tiny.model, "model.layers.0.mlp.up_proj", 2)]
    before = sorted(tmp_path.iterdir())
    for place in ("file", "link", "loop", "file/below", "x" * 300):
        with pytest.raises(ModelError, match=place[:10]):
            export(tiny.model, tiny.tokenizer, deltas, Path(place), format)
    monkeypatch.chdir(here)
    with pytest.raises(ModelError, match="the folder that you are in"):
        export(tiny.model, tiny.tokenizer, deltas, Path(), format)
    monkeypatch.chdir(tmp_path)
    if format == "patch":
        with pytest.raises(ModelError, match="here is a folder, and a patch is a file"):
            export(tiny.model, tiny.tokenizer, deltas, Path("here"), format)
    monkeypatch.setattr(Path, "is_mount", lambda path: path == here)
    with pytest.raises(ModelError, match="here is where a disk is mounted"):
        export(tiny.model, tiny.tokenizer, deltas, here, format)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_text() == "precious"
    assert list(here.iterdir()) == []


def test_an_unknown_format_is_refused(tiny: LoadedModel, tmp_path: Path) -> None:
    format: Any = "onnx"
    with pytest.raises(
        ConfigError, match="format is 'onnx'; it must be one of model, lora, gguf, gguf-lora, mlx, patch"
    ):
        export(tiny.model, tiny.tokenizer, [], tmp_path / "out", format)
    assert list(tmp_path.iterdir()) == []


def export_until(step: int, *arguments: Any) -> bool:
    """Exports in a child process that is killed before its ``step``-th flush or rename; whether it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            left = itertools.count(step, -1)
            for name in ("fsync", "replace"):
                setattr(os, name, partial(_call_or_die, left, getattr(os, name)))
            export(*arguments)
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _call_or_die(left: Iterator[int], call: Callable[..., None], *arguments: Any) -> None:
    if next(left) == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    call(*arguments)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("format", ["model", "lora", "gguf-lora", "mlx", "patch"])
def test_an_export_killed_at_any_flush_or_rename_is_whole_or_absent_and_the_next_one_cleans_up(
    tiny: LoadedModel, tmp_path: Path, format: Any
) -> None:
    deltas = [delta(tiny.model, "model.layers.0.mlp.up_proj", 2)]
    arguments = (tiny.model, tiny.tokenizer, deltas, tmp_path / "out", format)
    export(*arguments[:3], tmp_path / "whole", format)
    whole = contents(tmp_path / "whole")
    for step in itertools.count():
        done = export_until(step, *arguments)
        if (tmp_path / "out").exists():  # whole, also when it was killed after the rename
            assert contents(tmp_path / "out") == whole
            break
        assert not done
        assert len([path for path in tmp_path.iterdir() if path.name.startswith(".out.")]) == 1
    assert step > 1
    export(*arguments[:3], tmp_path / "next", format)
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "out", "next"}


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in [path, *path.rglob("*")] if file.is_file()}


def test_a_folder_named_tilde_in_the_current_one_is_written_to_as_typed(
    tiny: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Editor(tiny, store="./~/edits").export("./~/out")
    assert {path.name for path in (tmp_path / "~").iterdir()} == {"edits", "out"}
    assert not list((tmp_path / "home").iterdir())


def test_a_checkpoint_without_the_first_part_of_the_models_names_keeps_its_names(
    tiny_tokenizer: Any, tmp_path: Path
) -> None:
    saved("gpt2", tiny_tokenizer, tmp_path / "base", vocab_size=300)
    file = tmp_path / "base" / "model.safetensors"
    save_file(
        {name.removeprefix("transformer."): each for name, each in load_file(file).items()}, file, {"format": "pt"}
    )
    base = load(tmp_path / "base")
    layer = base.model.get_submodule("transformer.h.1.mlp.c_proj")
    A, B = torch.randn(2, layer.weight.shape[0]), torch.randn(layer.weight.shape[1], 2)
    update = SparseDelta((layer_factors("transformer.h.1.mlp.c_proj", layer, A, B, 1.0),))
    edited = Edited(base.model, base.tokenizer, apply(base.model, update), [update])
    for format in ("model", "patch"):
        export_edits(edited, tmp_path / format, format)
    assert names(tmp_path / "model") == names(tmp_path / "base")
    now = dict(SavedWeights(tmp_path / "base"))
    apply_patch(tmp_path / "patch", now)
    assert same_bytes(now, dict(SavedWeights(tmp_path / "model")))


def test_a_weight_that_the_checkpoint_joins_with_others_is_no_patch_but_a_whole_model(
    tiny_tokenizer: Any, tmp_path: Path
) -> None:
    base = saved("hrm_text", tiny_tokenizer, tmp_path / "base", **MOE)
    update = delta(base.model, "model.L_module.layers.0.mlp.up_proj", 2)
    with pytest.raises(UnsupportedError, match="stored as a part of"):
        export(base.model, base.tokenizer, [update], tmp_path / "patch", "patch")
    edited = Edited(base.model, base.tokenizer, apply(base.model, update), [update])
    export_edits(edited, tmp_path / "out", "model")
    assert same_bytes(weights(load(tmp_path / "out").model), weights(base.model))


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_patch_of_any_architecture_makes_the_merged_models_weights_of_those_of_the_base(
    tiny_tokenizer: Any, tmp_path: Path, kind: str
) -> None:
    settings, layer, _ = CHECKPOINTS[kind]
    base = saved(kind, tiny_tokenizer, tmp_path / "base", **settings)
    updates = [delta(base.model, layer, rank) for rank in (2, 3)]
    overlay = apply(base.model, *updates)
    for format in ("model", "patch"):
        export_edits(Edited(base.model, base.tokenizer, overlay, updates), tmp_path / format, format)
    now, wanted = (dict(SavedWeights(tmp_path / folder)) for folder in ("base", "model"))
    assert not same_bytes(now, wanted)
    apply_patch(tmp_path / "patch", now)
    assert same_bytes(now, wanted)
    apply_patch(tmp_path / "patch", now, undo=True)
    assert same_bytes(now, dict(SavedWeights(tmp_path / "base")))


@pytest.mark.parametrize(("name", "meant"), [("edited.gguf", "gguf or gguf-lora"), ("changes.safetensors", "patch")])
def test_a_folder_is_not_given_a_files_name_because_the_format_was_forgotten(
    name: str, meant: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"{name} ends as a file does, .* give --format {meant}, or a folder"):
        require_exportable(1, tmp_path / name, "model", None)
