from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from roselora.errors import ModelError
from roselora.models.saved_weights import SavedWeights


@pytest.mark.parametrize("shard", ["1GB", "20KB"])
def test_weights_are_read_from_one_file_or_from_several(
    tiny_model: Callable[..., Any], tmp_path: Path, shard: str
) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path, max_shard_size=shard)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard == "20KB")
    saved, state = SavedWeights(tmp_path), model.state_dict()
    assert set(saved) == set(state) - {"lm_head.weight"}  # tied to the embedding, and written once
    assert all(torch.equal(tensor, state[name]) for name, tensor in saved.items())


def test_a_folder_without_safetensors_or_with_broken_ones_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no safetensors"):
        SavedWeights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read"):
        SavedWeights(tmp_path)
