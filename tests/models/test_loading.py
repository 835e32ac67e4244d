import copy
import json
import logging
import shutil
import socket
import warnings
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
import transformers.utils.logging as transformers_logging
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, BertLMHeadModel, T5Config, T5ForConditionalGeneration

from roselora.errors import ConfigError, ModelError
from roselora.models import LoadedModel, load, pretrained
from roselora.models.fingerprint import fingerprint
from roselora.models.pretrained import _quantization, is_cached
from tests.models.tiny_gguf import write_tiny_gguf


@pytest.fixture(autouse=True)
def connections(monkeypatch):
    """Every address that anything tries to reach; all of them fail."""
    tried = []

    def refuse(*arguments, **_):
        tried.append(arguments)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tried


@pytest.fixture
def offline(monkeypatch):
    """What an unreachable hub looks like, without its client's patient retries."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def folder(tiny_model_folder, tmp_path):
    """A copy of the tiny model's folder that a test may spoil."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "copy"))


@pytest.fixture
def hub_cache(tiny_model_folder, tmp_path, monkeypatch):
    """A hub cache that holds the tiny model as owner/tiny."""
    repository = tmp_path / "hub" / "models--owner--tiny"
    commit = "a" * 40
    shutil.copytree(tiny_model_folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return repository / "snapshots" / commit


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(source, **options):
    """The one sentence that `load` refuses with."""
    with pytest.raises(ModelError) as caught:
        load(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_folder_gives_its_model_ready_to_use(tiny_model_folder, tiny_model, connections):
    loaded = load(tiny_model_folder)
    assert isinstance(loaded, LoadedModel)
    assert loaded.name == str(tiny_model_folder)
    assert fingerprint(loaded.model) == fingerprint(tiny_model())
    assert not loaded.model.training
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    assert loaded.tokenizer.padding_side == "left"
    assert connections == []


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


def test_loading_and_refusing_print_nothing_and_put_the_libraries_voices_back(folder, capfd):
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    load(folder)
    (folder / "model.safetensors").write_bytes(b"broken")
    refusal(folder)
    (folder / "tokenizer.json").unlink()
    refusal(folder)
    assert "".join(capfd.readouterr()) == ""
    assert transformers_logging.get_verbosity() == verbosity != logging.CRITICAL
    assert transformers_logging.is_progress_bar_enabled() == bars


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.pth"])
def test_a_folder_with_only_pickles_is_refused_by_name(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    message = refusal(folder)
    assert message.startswith("only safetensors")
    assert str(folder) in message


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "model.PTH", "model.ckpt"])
def test_a_pickle_is_refused_by_name_whether_or_not_it_is_there(tmp_path, name):
    assert "only safetensors" in refusal(tmp_path / name)
    (tmp_path / name).write_bytes(b"\x80\x04")
    assert "only safetensors" in refusal(tmp_path / name)


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


@pytest.mark.parametrize(
    "source", ["", "/no/such/folder", "./none", "a b", "a/b/c", "../up", "x.gguf", "X.GGUF", "-x", "é"]
)
def test_promise_10_what_is_neither_a_path_nor_a_hub_id_is_refused_without_asking_the_hub(source, connections):
    refusal(source)
    assert connections == []


def test_promise_10_a_link_that_leads_nowhere_is_no_hub_id(tmp_path, monkeypatch, connections):
    monkeypatch.chdir(tmp_path)
    Path("model").symlink_to("blobs/0123")
    assert "is a link to no file or folder" in refusal("model")
    assert connections == []


def test_a_path_object_is_never_taken_for_a_hub_id(connections):
    assert "there is no file or folder owner/model" in refusal(Path("owner/model"))
    assert connections == []


def test_a_device_and_a_dtype_are_names_or_torchs_own(tiny_model_folder):
    for device in ("cpu", torch.device("cpu")):
        for dtype in ("bfloat16", torch.bfloat16):
            model = load(tiny_model_folder, device=device, dtype=dtype).model
            assert (model.device.type, model.dtype) == ("cpu", torch.bfloat16)
    assert load(tiny_model_folder).model.dtype == torch.float32


def test_what_is_no_device_or_dtype_is_refused_before_anything_is_read():
    for options in ({"device": "nonsense"}, {"dtype": "int8"}):
        with pytest.raises(ConfigError, match=str(next(iter(options.values())))):
            load("no/such/model", **options)


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


def test_a_model_is_called_the_same_from_every_folder(tiny_model_folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tiny_model_folder.parent)
    assert load(tiny_model_folder.name).name == str(tiny_model_folder)
    (tmp_path / "up").mkdir()
    monkeypatch.chdir(tmp_path / "up")
    (tmp_path / "demo").symlink_to(tiny_model_folder)
    assert load(Path("../demo")).name == str(tmp_path / "up" / ".." / "demo")


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


def test_a_gguf_file_must_be_named_itself_and_a_weight_file_by_its_folder(folder, tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"")
    assert "name the .gguf file itself" in refusal(tmp_path)
    assert "name the folder" in refusal(folder / "model.safetensors")


@pytest.mark.demo
def test_the_demo_model_has_the_right_tokenizer_and_tied_head(demo, connections):
    tokenizer = demo.tokenizer
    assert demo.name == "demo"
    assert demo.model.dtype == torch.float32
    assert demo.model.lm_head.weight is demo.model.model.embed_tokens.weight
    assert tokenizer.eos_token == "<|im_end|>"
    assert [tokenizer(s).input_ids for s in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")] == [[0], [1], [2]]
    assert tokenizer.decode(tokenizer("Café in 1984, 日本\n\n ok").input_ids) == "Café in 1984, 日本\n\n ok"
    assert tokenizer.tokenize("a  12") == ["a", "ĠĠ", "1", "2"]
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


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


def test_a_pickle_with_the_ending_of_a_gguf_file_is_refused(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "model.gguf")
    assert "not a GGUF file" in refusal(tmp_path / "model.gguf")


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


def test_a_generation_config_that_transformers_refuses_to_save_is_saved_as_it_was_read(folder, tmp_path):
    file = folder / "generation_config.json"
    edit_json(file, do_sample=False, temperature=0.7, top_k=7)
    model = load(folder).model
    model.generation_config.eos_token_id = [1, 2]  # as a Trainer aligns it
    model.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "generation_config.json").read_bytes() == file.read_bytes()
    assert model.generation_config.temperature == copy.deepcopy(model.generation_config).temperature == 0.7
    model.generation_config.do_sample = True  # what was wrong is mended, and not lost
    model.save_pretrained(tmp_path / "mended")
    assert json.loads((tmp_path / "mended" / "generation_config.json").read_text())["do_sample"] is True


def test_generation_settings_in_the_models_own_config_do_not_keep_it_from_being_saved(folder, tmp_path):
    (folder / "generation_config.json").unlink()
    edit_json(folder / "config.json", do_sample=False, top_p=0.5)
    model = load(folder).model
    model.generation_config.eos_token_id = [1, 2]
    model.save_pretrained(tmp_path / "saved")
    assert load(folder).model.generation_config.top_p == 0.5
    assert json.loads((tmp_path / "saved" / "generation_config.json").read_text())["top_p"] == 0.5


def test_a_generation_config_that_can_be_saved_is_saved_as_it_is_now(folder, tmp_path):
    model = load(folder).model
    model.generation_config.max_new_tokens = 5
    model.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "generation_config.json").read_text())["max_new_tokens"] == 5
