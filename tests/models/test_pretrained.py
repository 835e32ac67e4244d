import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, BertLMHeadModel, T5Config, T5ForConditionalGeneration

from roselora.errors import ModelError
from roselora.models import load, pretrained
from roselora.models.fingerprint import fingerprint
from roselora.models.pretrained import _quantization, is_cached
from tests.models.refusals import edit_json, refusal
from tests.models.tiny_gguf import write_tiny_gguf

pytestmark = pytest.mark.usefixtures("connections")


def test_the_dtype_is_the_checkpoints_unless_asked_for(tiny_model, tiny_tokenizer, tmp_path):
    tiny_model().bfloat16().save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    assert load(tmp_path).model.dtype == torch.bfloat16
    assert load(tmp_path, dtype=torch.float32).model.dtype == torch.float32


def test_a_pad_token_behind_the_models_vocabulary_becomes_eos(folder):
    tokenizer = load(folder).tokenizer
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(folder)
    loaded = load(folder)
    assert loaded.tokenizer.pad_token == "<|im_end|>"
    assert loaded.tokenizer("<pad>").input_ids == [len(loaded.tokenizer) - 1], "the token itself stays"


def test_a_missing_pad_token_becomes_eos_and_right_padding_left(folder, caplog):
    config = folder / "tokenizer_config.json"
    settings = json.loads(config.read_text())
    del settings["pad_token"]
    config.write_text(json.dumps(settings | {"padding_side": "right"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer = load(folder).tokenizer
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.padding_side == "left"
    assert not caplog.records


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.pth"])
def test_a_folder_with_only_pickles_is_refused_by_name(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    message = refusal(folder)
    assert message.startswith("only safetensors")
    assert str(folder) in message


def test_an_index_that_leads_to_a_pickle_is_refused(folder, tiny_model):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file(weights, folder / "other.safetensors")
    torch.save(weights, folder / "weights.bin")
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(weights, "weights.bin")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "only safetensors" in refusal(folder)
    index["weight_map"] = dict.fromkeys(weights, "other.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert fingerprint(load(folder).model) == fingerprint(tiny_model())


@pytest.mark.parametrize("kept", [0, 7, 8, 100, 5000, -1])
def test_truncated_safetensors_are_refused(folder, kept):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    assert f"the weights of {folder} could not be read" in refusal(folder)


def test_a_checkpoint_that_lacks_a_tensor_is_refused_not_filled_with_noise(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "lacks 1 of its weights, the first of them model.layers.1.mlp.up_proj.weight" in refusal(folder)


def test_a_checkpoint_with_a_tensor_of_another_shape_is_refused(folder):
    edit_json(folder / "config.json", intermediate_size=48)
    assert f"the weights of {folder}" in refusal(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model_type": "no-such-type"}', "{}"])
def test_a_broken_or_unknown_config_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    assert f"the config of {folder} could not be read" in refusal(folder)


def test_a_missing_part_is_named(folder, tmp_path):
    (folder / "tokenizer.json").unlink()
    assert f"no usable tokenizer with {folder}" in refusal(folder)
    (folder / "model.safetensors").unlink()
    assert f"no weights in the folder {folder}" in refusal(folder)
    (folder / "config.json").unlink()
    assert "no config.json" in refusal(folder)


def test_a_tokenizer_without_an_end_is_refused(folder):
    config = folder / "tokenizer_config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps({key: value for key, value in settings.items() if "token" not in key}))
    assert "end-of-sequence" in refusal(folder)


def tiny_encoder():
    config = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return BertForMaskedLM(BertConfig(vocab_size=259, **config))


def tiny_translator():
    return T5ForConditionalGeneration(T5Config(vocab_size=259, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))


@pytest.mark.parametrize("make", [tiny_encoder, tiny_translator])
def test_an_encoder_or_a_translator_is_not_a_causal_model(make, tiny_tokenizer, tmp_path):
    make().save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    assert f"{tmp_path} is not a causal language model" in refusal(tmp_path)


def test_a_decoder_of_an_encoders_family_is_a_causal_model(tiny_tokenizer, tmp_path):
    encoder = tiny_encoder()
    BertLMHeadModel(BertConfig(**encoder.config.to_dict() | {"is_decoder": True})).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    assert load(tmp_path).model.config.is_decoder


def test_an_adapter_is_not_followed_to_its_base(folder):
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/elsewhere"}))
    assert f"{folder} is an adapter" in refusal(folder)


def test_a_models_own_code_is_never_run(folder, capfd):
    (folder / "code.py").write_text("raise SystemExit('it was run')")
    edit_json(
        folder / "config.json",
        model_type="own",
        auto_map={"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},
    )
    assert "the config of" in refusal(folder)


def test_promise_10_a_cached_hub_id_needs_no_network(hub_cache, tiny_model, connections):
    loaded = load("owner/tiny")
    assert loaded.name == loaded.model.name_or_path == loaded.model.config._name_or_path == "owner/tiny"
    assert fingerprint(loaded.model) == fingerprint(tiny_model())
    assert connections == []


def test_promise_10_the_hub_is_asked_only_for_what_is_not_cached_whole(hub_cache, offline, monkeypatch):
    asked = []
    read = pretrained._read

    def watched(name, *arguments, local_files_only, **options):
        if not local_files_only:
            asked.append(name)
        return read(name, *arguments, local_files_only=local_files_only, **options)

    monkeypatch.setattr(pretrained, "_read", watched)
    load("owner/tiny")
    assert asked == []
    (hub_cache / "tokenizer.json").unlink()
    refusal("owner/tiny")
    refusal("owner/other")
    assert asked == ["owner/tiny", "owner/other"]


def test_promise_10_a_model_that_nobody_named_is_read_from_the_cache_and_never_fetched(
    hub_cache, tiny_model, connections
):
    assert is_cached("owner/tiny")
    assert not is_cached("owner/other")
    assert fingerprint(load("owner/tiny", fetch=False).model) == fingerprint(tiny_model())
    (hub_cache / "tokenizer.json").unlink()
    for name in ("owner/tiny", "owner/other"):
        with pytest.raises(ModelError, match=f"{name} is not complete in the cache, and was not downloaded"):
            load(name, fetch=False)
    assert connections == []


def test_a_cached_model_of_the_wrong_kind_is_refused_without_asking_the_hub(hub_cache, connections):
    edit_json(hub_cache / "config.json", architectures=["LlamaForSequenceClassification"])
    assert "owner/tiny is not a causal language model" in refusal("owner/tiny")
    assert connections == []


def test_an_unreachable_hub_is_one_sentence(offline, hub_cache, capfd):
    message = refusal("owner/other")
    assert "owner/other" in message
    assert "check its spelling and the network" in message
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 16, b"no gguf at all" * 10])
def test_a_broken_gguf_file_is_refused(tmp_path, content):
    (tmp_path / "model.gguf").write_bytes(content)
    assert str(tmp_path / "model.gguf") in refusal(tmp_path / "model.gguf")


@pytest.fixture(scope="session")
def gguf_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_tiny_gguf(file)
    return file


@pytest.mark.parametrize("name", ["MODEL.GGUF", "sha256-0123", "weights.bin", "link.gguf", "link"])
def test_a_gguf_file_is_known_by_its_first_bytes_under_any_name_and_never_unpickled(
    gguf_file, tmp_path, monkeypatch, name
):
    expected = fingerprint(load(gguf_file).model)

    def unpickle(*_, **__):
        raise AssertionError("a pickle was read")

    monkeypatch.setattr(torch, "load", unpickle)
    monkeypatch.chdir(tmp_path)
    shutil.copy(gguf_file, "0123abcd" if "link" in name else name)
    if "link" in name:
        Path(name).symlink_to("0123abcd")
    loaded = load(name)
    assert fingerprint(loaded.model) == expected
    assert loaded.model.name_or_path == str(tmp_path / name)
    assert len(list(tmp_path.iterdir())) == 1 + ("link" in name)


@pytest.mark.parametrize("name", ["model.GGUF", "pytorch_model.BIN"])
def test_a_folder_with_weights_in_capitals_is_refused_with_its_reason(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    assert ("name the .gguf file itself" if name == "model.GGUF" else "only pickles") in refusal(folder)


def test_a_folder_of_links_into_a_cache_and_one_with_a_slash_are_read(tiny_model_folder, tiny_model, tmp_path):
    for number, file in enumerate(tiny_model_folder.iterdir()):
        shutil.copy(file, tmp_path / f"{number:040x}")
        (tmp_path / "snapshot").mkdir(exist_ok=True)
        (tmp_path / "snapshot" / file.name).symlink_to(tmp_path / f"{number:040x}")
    assert fingerprint(load(f"{tmp_path / 'snapshot'}/").model) == fingerprint(tiny_model())


@pytest.mark.parametrize(
    "settings",
    [
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"load_in_8bit": True},
        {"quant_method": "gptq", "bits": 4},
        {"quant_method": "fp8", "weight_block_size": [128, 128]},
        {"quant_method": "mxfp4"},
        {"quant_method": "someones-own"},
    ],
    ids=lambda settings: settings.get("quant_method", "unnamed"),
)
@pytest.mark.parametrize("place", ["quantization_config", "compression_config"])
def test_a_quantized_model_is_refused_by_its_method(folder, settings, place):
    edit_json(folder / "config.json", **{place: settings})
    message = refusal(folder)
    assert "is quantized" in message
    assert settings.get("quant_method", "unnamed") in message


def test_a_model_whose_text_part_is_quantized_is_refused():
    assert _quantization({"text_config": {"quantization_config": {"quant_method": "awq"}}}) == "awq"
    assert _quantization({"quantization_config": None, "text_config": {"hidden_size": 4}}) is None
