"""Merged folders: the base's files byte for byte but for the edited weights, and older names where there is no base."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from roselora.models import load
from roselora.models.model_saving import write_model
from roselora.models.older_names import add_older_names
from roselora.models.saved_weights import SavedWeights
from roselora.serving.merged_folder import base_folder, write_merged
from tests.weights import same_bytes, weights

NAME = "model.layers.1.mlp.down_proj.weight"
OTHERS = {
    "LICENSE": b"do as you like\r\n",
    "special_tokens_map.json": b'{"eos_token":   "<|im_end|>"}',
    "README.md": b"---\nlicense: mit\n---\n",
}
"""Files of a base that transformers would not write, or not so."""
STALE = ("pytorch_model.bin", "consolidated.safetensors", "model.gguf", "model.onnx", "pytorch_model.bin.index.json")
"""Weights in other forms, which would not be edited."""


@pytest.fixture
def base(tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path) -> Path:
    """A sharded bf16 model as it may lie in a hub's cache."""
    folder = tmp_path / "base"
    tiny_model().bfloat16().save_pretrained(folder, max_shard_size="40KB")
    tiny_tokenizer.save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 1
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"model_type"', '"ours": [1,2],\n   "model_type"'))
    for name, content in OTHERS.items():
        (folder / name).write_bytes(content)
    for name in STALE:
        (folder / name).write_bytes(b"stale")
    (folder / "onnx").mkdir()
    return folder


def edited(folder: Path, **options: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    loaded = load(folder, **options)
    weight = loaded.model.get_parameter(NAME)
    with torch.no_grad():
        weight[3, 5] += 2
    return loaded, {NAME: weight}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_only_the_edited_tensors_bytes_differ_from_the_bases_files(base: Path, tmp_path: Path) -> None:
    loaded, changed = edited(base)
    assert write_merged(loaded.model, loaded.tokenizer, changed, tmp_path / "out")
    before, after = files(base), files(tmp_path / "out")
    assert after.keys() == before.keys() - set(STALE)
    differing = [name for name in after if after[name] != before[name]]
    assert len(differing) == 1
    (shard,) = differing
    was, now = before[shard], after[shard]
    assert len(now) == len(was)
    assert 1 <= sum(one != other for one, other in zip(was, now, strict=True)) <= 2  # one entry in bf16
    assert same_bytes(weights(load(tmp_path / "out").model), weights(loaded.model))


def test_an_index_that_names_files_elsewhere_never_gets_them_overwritten(base: Path, tmp_path: Path) -> None:
    shards = sorted(base.glob("model-*.safetensors"))
    whole = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    elsewhere = tmp_path / "elsewhere.safetensors"
    save_file(whole, elsewhere, {"format": "pt"})
    for shard in shards:
        shard.unlink()
    index = {"metadata": {}, "weight_map": dict.fromkeys(whole, str(elsewhere))}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    before = elsewhere.read_bytes()
    loaded, changed = edited(base)
    assert write_merged(loaded.model, loaded.tokenizer, changed, tmp_path / "out")
    assert elsewhere.read_bytes() == before
    assert same_bytes(weights(load(tmp_path / "out").model), weights(loaded.model))


def test_further_chat_templates_are_copied(base: Path, tmp_path: Path) -> None:
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates" / "tool_use.jinja").write_text("{{ messages }}")
    loaded, changed = edited(base)
    assert write_merged(loaded.model, loaded.tokenizer, changed, tmp_path / "out")
    assert (tmp_path / "out" / "additional_chat_templates" / "tool_use.jinja").read_text() == "{{ messages }}"
    assert not (tmp_path / "out" / "onnx").exists()


def test_in_another_dtype_transformers_writes_the_model_and_other_files_are_kept(base: Path, tmp_path: Path) -> None:
    loaded, changed = edited(base, dtype="float32")
    assert write_merged(loaded.model, loaded.tokenizer, changed, tmp_path / "out")
    after = files(tmp_path / "out")
    assert {name: after[name] for name in OTHERS} == OTHERS
    assert not after.keys() & set(STALE)
    again = load(tmp_path / "out").model
    assert again.dtype == torch.float32
    assert same_bytes(weights(again), weights(loaded.model))


def test_a_model_that_is_not_its_base_any_more_is_written_as_it_is_in_memory(base: Path, tmp_path: Path) -> None:
    loaded, changed = edited(base)
    with torch.no_grad():
        loaded.model.get_parameter("model.norm.weight").mul_(3)
    assert write_merged(loaded.model, loaded.tokenizer, changed, tmp_path / "out")
    assert same_bytes(weights(load(tmp_path / "out").model), weights(loaded.model))
    assert files(tmp_path / "out")["LICENSE"] == OTHERS["LICENSE"]


def test_a_base_is_found_in_its_folder_or_the_hubs_cache(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert base_folder(str(base)) == base
    for name in ("", str(tmp_path / "model.gguf"), "someone/never-downloaded"):
        assert base_folder(name) is None
    snapshot = tmp_path / "hub" / "models--someone--tiny" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    base.rename(snapshot)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert base_folder("someone/tiny") == snapshot


def written(folder: Path, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both configs of a folder after `add_older_names`."""
    folder.mkdir()
    tokenizer = {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers", "model_max_length": 10**30}
    (folder / "config.json").write_text(json.dumps({"dtype": "float32", "max_position_embeddings": 512} | config))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    add_older_names(folder)
    found, other = (json.loads((folder / name).read_text()) for name in ("config.json", "tokenizer_config.json"))
    return found, other


def test_older_programs_find_the_rotary_settings_the_class_and_the_context(tmp_path: Path) -> None:
    config, tokenizer = written(
        tmp_path / "llama",
        {"rope_parameters": {"rope_theta": 1e5, "rope_type": "default"}, "_model_name_or_path": "A Title"},
    )
    assert (config["rope_theta"], config["torch_dtype"]) == (1e5, "float32")
    assert "rope_scaling" not in config
    assert "_model_name_or_path" not in config
    assert tokenizer == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
    }
    llama3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}
    config, _ = written(tmp_path / "llama3", {"rope_parameters": {"rope_theta": 5e5, **llama3}})
    assert (config["rope_theta"], config["rope_scaling"]) == (5e5, llama3)
    both = {
        "full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
        "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
    }
    config, _ = written(tmp_path / "gemma3", {"rope_parameters": both})
    assert (config["rope_theta"], config["rope_local_base_freq"]) == (1e6, 1e4)
    assert config["rope_scaling"] == {"rope_type": "linear", "factor": 8.0}
    assert config["rope_parameters"] == both
    part = {"rope_theta": 5e4, "rope_type": "default", "partial_rotary_factor": 0.4}
    config, _ = written(tmp_path / "phi", {"model_type": "phi", "rope_parameters": part})
    assert (config["rope_theta"], config["partial_rotary_factor"]) == (5e4, 0.4)
    config, _ = written(tmp_path / "neox", {"model_type": "gpt_neox", "rope_parameters": part})
    assert (config["rotary_emb_base"], config["rotary_pct"]) == (5e4, 0.4)
    long = {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [2.0], "factor": 32.0}
    config, _ = written(tmp_path / "phi3", {"model_type": "phi3", "rope_parameters": {"rope_theta": 1e4, **long}})
    assert config["rope_scaling"] == {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}


def test_older_names_change_nothing_for_transformers_5(base: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    model.config.rope_parameters = {"rope_theta": 5e4, "rope_type": "linear", "factor": 2.0}
    model.save_pretrained(tmp_path / "out")
    (tmp_path / "out" / "tokenizer_config.json").write_text("{}")
    before = AutoModelForCausalLM.from_pretrained(tmp_path / "out").config
    add_older_names(tmp_path / "out")
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "out").config
    assert after.rope_parameters == before.rope_parameters


def test_special_tokens_of_ones_own_are_named_as_version_4_reads_them(
    tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|endoftext|>"]})
    write_model(tiny_model(), tokenizer, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert config["additional_special_tokens"] == ["<|endoftext|>"]
    assert "extra_special_tokens" not in config
    again = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert again.all_special_ids == tokenizer.all_special_ids


def test_a_checkpoint_whose_weights_are_damaged_is_not_copied(base: Path, tmp_path: Path) -> None:
    loaded, changed = edited(base)
    shard = sorted(base.glob("model-*.safetensors"))[0]
    save_file({name: tensor + 1 for name, tensor in load_file(shard).items()}, shard)
    assert write_merged(loaded.model, loaded.tokenizer, changed, tmp_path / "out")
    saved = SavedWeights(tmp_path / "out")
    assert torch.equal(saved[NAME], loaded.model.get_parameter(NAME))
