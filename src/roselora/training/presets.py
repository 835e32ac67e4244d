"""Presets: settings that a paper's own code or text confirms, and ours, which are marked as such."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roselora.errors import ConfigError
from roselora.user_files import yaml_value


@dataclass(frozen=True)
class Preset:
    """Settings that hold unless a config file or an option says otherwise.

    Attributes:
        source: where they come from, in one sentence.
        config: the settings as a config file has them, in YAML.
    """

    source: str
    config: str


_LOREFT_CODE = "LoReFT's own code (stanfordnlp/pyreft, examples/loreft/README.md at 0c6b765)"
_LOREFT_REASONING = """
method: loreft
adapter: {rank: 8, first_positions: 7, last_positions: 7, shared_positions: true}
training:
  learning_rate: 0.0009
  lr_scheduler: linear
  weight_decay: 0.0
  batch_size: 16
  gradient_accumulation: 2
  lr_warmup: 0.1
"""

PRESETS: Mapping[str, Preset] = {
    "llm-adapters-lora": Preset(
        "LLM-Adapters' LoRA for commonsense and arithmetic (its README and finetune.py), without its loss on prompts.",
        """
        method: lora
        adapter:
          rank: 32
          alpha: 64
          dropout: 0.05
          target_modules: [q_proj, k_proj, v_proj, up_proj, down_proj]
        training: {batch_size: 16, learning_rate: 0.0003, lr_warmup: 100, epochs: 3, max_length: 256}
        """,
    ),
    "loreft-commonsense": Preset(f"{_LOREFT_CODE}, for commonsense.", f"{_LOREFT_REASONING}  epochs: 6"),
    "loreft-arithmetic": Preset(f"{_LOREFT_CODE}, for arithmetic.", f"{_LOREFT_REASONING}  epochs: 12"),
    "loreft-instruct": Preset(
        f"{_LOREFT_CODE}, for UltraFeedback with Llama-2-7B, whose layers these are.",
        """
        method: loreft
        adapter: {rank: 4, first_positions: 5, last_positions: 5, shared_positions: false, layers: [3, 9, 18, 24]}
        training:
          learning_rate: 0.0009
          lr_scheduler: linear
          weight_decay: 0.0
          batch_size: 4
          gradient_accumulation: 32
          epochs: 9
          lr_warmup: 0.0
          max_length: 768
        """,
    ),
    "roselora-glue-cpu": Preset(
        "Ours, no paper's: GLUE cuts that two processor cores carry with minilm (docs/glue.md).",
        """
        method: rose
        adapter: {rank: 8, density: 0.05}
        training: {batch_size: 16, learning_rate: 0.002, max_steps: 200, max_length: 128}
        """,
    ),
}


def preset_values(name: str) -> dict[str, Any]:
    """A preset's settings, as a new dictionary.

    Raises:
        ConfigError: there is no preset of that name.

    >>> preset_values("roselora-glue-cpu")["adapter"]
    {'rank': 8, 'density': 0.05}
    """
    if name not in PRESETS:
        raise ConfigError(f"There is no preset {name!r}: name one of {', '.join(PRESETS)}.")
    values: dict[str, Any] = yaml_value(PRESETS[name].config)
    return values
