import logging
from pathlib import Path

import pytest
import torch
import transformers.utils.logging as transformers_logging

from roselora.errors import ConfigError
from roselora.models import LoadedModel, load
from roselora.models.fingerprint import fingerprint
from tests.models.refusals import refusal

pytestmark = pytest.mark.usefixtures("connections")


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


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "model.PTH", "model.ckpt"])
def test_a_pickle_is_refused_by_name_whether_or_not_it_is_there(tmp_path, name):
    assert "only safetensors" in refusal(tmp_path / name)
    (tmp_path / name).write_bytes(b"\x80\x04")
    assert "only safetensors" in refusal(tmp_path / name)


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


def test_a_model_is_called_the_same_from_every_folder(tiny_model_folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tiny_model_folder.parent)
    assert load(tiny_model_folder.name).name == str(tiny_model_folder)
    (tmp_path / "up").mkdir()
    monkeypatch.chdir(tmp_path / "up")
    (tmp_path / "demo").symlink_to(tiny_model_folder)
    assert load(Path("../demo")).name == str(tmp_path / "up" / ".." / "demo")


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


def test_a_pickle_with_the_ending_of_a_gguf_file_is_refused(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "model.gguf")
    assert "not a GGUF file" in refusal(tmp_path / "model.gguf")
