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
        (["q_proj", "nothing"], "target_modules names 'nothing', .* there are down_proj, embed_tokens, gate_proj"),
        ("q_proj", "regular expression for whole names, and 'q_proj' matches none .* down_proj"),
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
    ("options", "message"),
    [
        ({"exclude_modules": ["kproj"]}, "exclude_modules names 'kproj', .* did you mean k_proj"),
        ({"exclude_modules": "k_proj"}, "exclude_modules names 'k_proj'"),
        ({"modules_to_save": ["lmhead"]}, "modules_to_save names 'lmhead', .* did you mean lm_head"),
        ({"modules_to_save": [3.5]}, "modules_to_save names 3.5"),
        (
            {"target_modules": [], "target_parameters": ["q_proj.weight", "v_proj.wieght"]},
            "target_parameters names 'v_proj.wieght'",
        ),
        ({"rank_pattern": {"oproj": 4}}, "rank_pattern names 'oproj', .* did you mean o_proj"),
        ({"alpha_pattern": {"model.layers.7.*": 4}}, "alpha_pattern names 'model.layers.7"),
        ({"layers_to_transform": [0, 99], "target_modules": ["q_proj"]}, "layers_to_transform names 99"),
        ({"layers_to_transform": 99, "target_modules": ["q_proj"]}, "layers_to_transform names 99"),
    ],
)
@pytest.mark.filterwarnings("ignore:modules_to_save")
def test_an_option_that_names_no_module_or_layer_is_refused(
    base_model: Callable[[], LlamaForCausalLM], options: dict[str, Any], message: str
) -> None:
    config = RoseLoraConfig(**{"r": 2, "total_steps": 10, "target_modules": "all-linear", **options})
    with pytest.raises(ConfigError, match=message):
        get_peft_model(base_model(), config)


@pytest.mark.parametrize(
    "options",
    [
        {"exclude_modules": ["self_attn.k_proj"]},
        {"exclude_modules": r".*\.k_proj"},
        {"rank_pattern": {r".*layers\.0.*q_proj": 4, "v_proj": 3}, "alpha_pattern": {"k_proj|o_proj": 4}},
        {"layers_to_transform": [0], "layers_pattern": "layers", "target_modules": ["q_proj"]},
        {"modules_to_save": ["lm_head"], "target_modules": ["q_proj"]},
    ],
)
@pytest.mark.filterwarnings("ignore:modules_to_save")
def test_options_that_name_what_is_there_are_taken(
    base_model: Callable[[], LlamaForCausalLM], options: dict[str, Any]
) -> None:
    get_peft_model(
        base_model(), RoseLoraConfig(**{"r": 2, "total_steps": 10, "target_modules": "all-linear", **options})
    )


@pytest.mark.parametrize(
    "targets", [["self_attn.q_proj"], ["model.layers.0.self_attn.q_proj"], "all-linear", ".*_proj"]
)
def test_ends_of_names_whole_names_and_patterns_are_taken(
    base_model: Callable[[], LlamaForCausalLM], targets: Any
) -> None:
    get_peft_model(base_model(), RoseLoraConfig(r=2, total_steps=10, target_modules=targets))
