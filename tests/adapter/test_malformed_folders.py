"""Whatever an adapter's folder holds, each reader reads it correctly or raises one of our errors."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from roselora import RoseLoraConfig, verify
from roselora.errors import FileFormatError, RoseLoraError, UnsupportedError
from roselora.serving.lora_folder import import_lora

CONFIG, SIDECAR, WEIGHTS = "adapter_config.json", "roselora_config.json", "adapter_model.safetensors"
LINEAR = "base_model.model.0"


def base() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    model: PeftModel = get_peft_model(base(), RoseLoraConfig(r=2, density=0.5, target_modules=["0"]))
    model.save_pretrained(str(folder))
    keep = torch.tensor([1.0, 0, 1, 0, 1, 0])
    weights = {f"{LINEAR}.lora_A.weight": keep.repeat(2, 1), f"{LINEAR}.lora_B.weight": torch.eye(8, 2)}
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "adapter")
    return tmp_path / "adapter"


def read_by_all(folder: Path) -> list[str]:
    """What each reader says of a folder; an error that is not ours is raised."""
    said: list[str] = []
    messages: list[str] = []
    for read in (verify, RoseLoraConfig.from_pretrained, lambda place: import_lora(place, base())):
        try:
            read(folder)
            said.append("read")
        except RoseLoraError as error:
            said.append(type(error).__name__)
            messages.append(str(error))
    assert all(len(message) < 2000 for message in messages)
    return said


def test_a_whole_folder_is_read_by_all(folder: Path) -> None:
    assert read_by_all(folder) == ["read"] * 3


DEEP = '{"a":' * 100_000
TEXTS = ["", "{", "[]", "null", "7", '"x"', "[1, 2]", DEEP, "[" * 100_000, "\x00", '{"r": ' + "9" * 5000 + "}", "NaN"]


@pytest.mark.parametrize("name", [CONFIG, SIDECAR])
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_malformed_config_is_refused(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    said = read_by_all(folder)
    assert "read" not in (said if name == CONFIG else said[:2])


@pytest.mark.parametrize("name", [CONFIG, SIDECAR, WEIGHTS])
def test_a_missing_file_a_folder_or_a_binary_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\xff\xfe\x00\x01")
    assert "read" in read_by_all(folder)[1:] or name == CONFIG
    (folder / name).unlink()
    first = read_by_all(folder)
    (folder / name).mkdir()
    assert first[0] != "read"
    assert read_by_all(folder)[0] != "read"


ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    1e400,
    10**400,
    "",
    "x",
    [],
    [1],
    {},
    {"a": 1},
    [[[]]],
    float("nan"),
    "a" * 10_000,
]


@pytest.mark.parametrize("name", [CONFIG, SIDECAR])
def test_a_config_with_a_value_of_any_other_type_raises_only_our_errors(folder: Path, name: str) -> None:
    config = json.loads((folder / name).read_text())
    for key in config:
        for value in ODD:
            (folder / name).write_text(json.dumps({**config, key: value}))
            read_by_all(folder)
        (folder / name).write_text(json.dumps({other: value for other, value in config.items() if other != key}))
        read_by_all(folder)
    (folder / name).write_text(json.dumps({**config, "unknown": 1}))
    read_by_all(folder)


def odd_weights() -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
    yield lambda factor: factor[0]
    yield lambda factor: factor[0, 0]
    yield lambda factor: factor[:0]
    yield lambda factor: factor[:, :0]
    yield lambda factor: factor[:1]
    yield lambda factor: factor[:, :1]
    yield lambda factor: factor[None]
    yield lambda factor: factor.T.contiguous()
    yield lambda factor: factor * float("nan")
    yield lambda factor: factor + float("inf")
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.int64, torch.bool, torch.float64):
        yield lambda factor, dtype=dtype: factor.to(dtype)


@pytest.mark.parametrize("side", ["A", "B"])
def test_factors_of_other_shapes_and_dtypes_raise_only_our_errors(folder: Path, side: str) -> None:
    weights = load_file(folder / WEIGHTS)
    name = f"{LINEAR}.lora_{side}.weight"
    for change in odd_weights():
        save_file({**weights, name: change(weights[name]).contiguous()}, folder / WEIGHTS, {"format": "pt"})
        read_by_all(folder)
    save_file({key: value for key, value in weights.items() if key != name}, folder / WEIGHTS)
    assert read_by_all(folder) == ["ConfigError", "read", "FileFormatError"]


def test_experts_of_another_rank_than_the_config_says_raise_only_our_errors(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    for rank in (1, 2, 3, 5, 10**400):
        (folder / CONFIG).write_text(json.dumps({**config, "r": rank, "target_parameters": ["0.weight"]}))
        assert read_by_all(folder)[2] == "UnsupportedError"


def test_weights_truncated_or_changed_anywhere_raise_only_our_errors(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    for place in range(0, len(data), 7):
        (folder / WEIGHTS).write_bytes(data[:place])
        assert read_by_all(folder)[0] != "read"
        (folder / WEIGHTS).write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
        read_by_all(folder)


def test_factors_of_one_byte_are_refused_by_name(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file({key: value.to(torch.float8_e4m3fn) for key, value in weights.items()}, folder / WEIGHTS)
    with pytest.raises(UnsupportedError, match="float8_e4m3fn; save them as float32"):
        import_lora(folder, base())


USELESS = ["(", "a" * 2000, "((a{1000}){1000}){1000}", "(?P<x", "\\", "[" * 500, "(?:" * 200 + "a" + ")*" * 200]


@pytest.mark.parametrize("pattern", [*USELESS, r"(0|0)+\1!"], ids=range(len(USELESS) + 1))
@pytest.mark.parametrize("table", ["rank_pattern", "alpha_pattern"])
def test_an_invalid_or_endless_pattern_is_refused(
    folder: Path, table: str, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roselora.serving.lora_patterns.SECONDS", 0.2)
    name = "0" * 60
    weights = {key.replace("model.0", f"model.{name}.0"): value for key, value in load_file(folder / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS)
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, table: {pattern: 2}}))
    start = time.monotonic()
    with pytest.raises(FileFormatError, match="pattern that cannot be used"):
        import_lora(folder, nn.ModuleDict({name: base()}))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("pattern", ["0", "^0", ".*0", "q_proj|0", r"\d+", "[0-9]", "(1|0)", "nothing"])
def test_ordinary_patterns_mean_what_they_mean_to_peft(folder: Path, pattern: str) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "alpha_pattern": {pattern: 6}}))
    (factors,) = import_lora(folder, base()).weights
    stock = PeftModel.from_pretrained(base(), folder)
    assert factors.scale == stock.get_base_model()[0].scaling["default"] == (8 / 2 if pattern == "nothing" else 6 / 2)
