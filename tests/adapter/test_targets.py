from collections.abc import Callable
from typing import Any

import pytest
from peft import get_peft_model
from transformers import LlamaForCausalLM

from roselora import RoseLoraConfig
from roselora.errors import ConfigError


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["qproj", "v_proj"], "target_modules names 'qproj', .* did you mean q_proj"),
        (["q_proj", "nothing"], "target_modules names 'nothing', .* there are act_fn"),
        (["q_proj", "roj"], "target_modules names 'roj'"),
    ],
)
def test_a_misspelt_module_among_right_ones_is_refused_and_the_model_left_alone(
    base_model: Callable[[], LlamaForCausalLM], targets: Any, message: str
) -> None:
    model = base_model()
    names = [name for name, _ in model.named_modules()]
    with pytest.raises(ConfigError, match=message):
        get_peft_model(model, RoseLoraConfig(r=2, total_steps=10, target_modules=targets))
    assert [name for name, _ in model.named_modules()] == names


@pytest.mark.parametrize(
    "targets", [["self_attn.q_proj"], ["model.layers.0.self_attn.q_proj"], "all-linear", ".*_proj"]
)
def test_ends_of_names_whole_names_and_patterns_are_taken(
    base_model: Callable[[], LlamaForCausalLM], targets: Any
) -> None:
    get_peft_model(base_model(), RoseLoraConfig(r=2, total_steps=10, target_modules=targets))
