"""The commands that start servers, and the rank that vLLM is told."""

import json
from pathlib import Path

import pytest

from roselora.serving.engines import Export
from roselora.serving.start_lines import rank_warning, start_line


@pytest.mark.parametrize(("rank", "told"), [(1, 1), (7, 8), (16, 16), (17, 32), (300, 320), (512, 512), (630, 512)])
def test_vllm_is_told_the_next_rank_that_it_takes_and_above_its_largest_there_is_a_warning(
    tmp_path: Path, rank: int, told: int
) -> None:
    folder = tmp_path / "an adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    assert start_line(Export("lora", str(folder), "someone/base")) == (
        f"vllm serve someone/base --enable-lora --lora-modules edits='{folder}' --max-lora-rank {told}"
    )
    warning = rank_warning(folder)
    assert (warning is None) == (rank <= 512)
    assert warning is None or "its rank is 630, and vLLM serves adapters up to 512" in warning


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_vllm_is_told_not_to_round_a_model_in_float32(tmp_path: Path, name: str) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4}))
    for dtype in ("bfloat16", "float32"):
        (base / "config.json").write_text(json.dumps({name: dtype}))
        lines = (start_line(Export("model", str(base), "")), start_line(Export("lora", str(tmp_path), str(base))))
        assert [line.endswith(" --dtype float32") for line in lines] == [dtype == "float32"] * 2


def test_each_other_kind_has_its_program() -> None:
    lines = {kind: start_line(Export(kind, "out", "base")) for kind in ("model", "gguf", "gguf-lora", "mlx")}
    assert lines == {
        "model": "vllm serve out",
        "gguf": "llama-server -m out",
        "gguf-lora": "llama-server -m base --lora out",
        "mlx": "mlx_lm.server --model base --adapter-path out",
    }
