import copy
import json

import pytest

from roselora.models import load
from tests.models.refusals import edit_json

pytestmark = pytest.mark.usefixtures("connections")


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
