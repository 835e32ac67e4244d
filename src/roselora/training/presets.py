"""Settings that a paper's own code or text confirms, by name, and ours, marked as such."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roselora.errors import ConfigError


@dataclass(frozen=True)
class Preset:
    """Settings that hold unless a file or an option says otherwise.

    Attributes:
        source: where they come from, in one sentence.
        sections: of the settings: ``adapter`` and ``training``.
        method: the method that they are of.
    """

    source: str
    sections: Mapping[str, Mapping[str, Any]]
    method: str


_LOREFT_CODE = "LoReFT's own code (stanfordnlp/pyreft, examples/loreft/README.md at 0c6b765)"
_LOREFT = {"learning_rate": 9e-4, "lr_scheduler": "linear", "weight_decay": 0.0}


def _loreft_reasoning(task: str, epochs: int) -> Preset:
    """LoReFT's settings for commonsense and arithmetic, which differ in the epochs alone."""
    return Preset(
        f"{_LOREFT_CODE}, for {task}.",
        {
            "adapter": {"rank": 8, "first_positions": 7, "last_positions": 7, "shared_positions": True},
            "training": {**_LOREFT, "batch_size": 16, "gradient_accumulation": 2, "epochs": epochs, "lr_warmup": 0.1},
        },
        "loreft",
    )


PRESETS: Mapping[str, Preset] = {
    "llm-adapters-lora": Preset(
        "LLM-Adapters' LoRA for commonsense and arithmetic (its README and finetune.py), but for its loss on prompts.",
        {
            "adapter": {
                "rank": 32,
                "alpha": 64,
                "dropout": 0.05,
                "target_modules": ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"],
            },
            "training": {
                "batch_size": 16,
                "learning_rate": 3e-4,
                "lr_warmup": 100,
                "epochs": 3,
                "max_length": 256,
            },
        },
        "lora",
    ),
    "loreft-commonsense": _loreft_reasoning("commonsense", 6),
    "loreft-arithmetic": _loreft_reasoning("arithmetic", 12),
    "loreft-instruct": Preset(
        f"{_LOREFT_CODE}, for UltraFeedback with Llama-2-7B, whose layers these are.",
        {
            "adapter": {
                "rank": 4,
                "first_positions": 5,
                "last_positions": 5,
                "shared_positions": False,
                "layers": [3, 9, 18, 24],
            },
            "training": {
                **_LOREFT,
                "batch_size": 4,
                "gradient_accumulation": 32,
                "epochs": 9,
                "lr_warmup": 0.0,
                "max_length": 768,
            },
        },
        "loreft",
    ),
    "roselora-glue-cpu": Preset(
        "Ours, no paper's: GLUE cuts that two processor cores carry with minilm (docs/glue.md).",
        {
            "adapter": {"rank": 8, "density": 0.05},
            "training": {"batch_size": 16, "learning_rate": 2e-3, "max_steps": 200, "max_length": 128},
        },
        "rose",
    ),
}
"""By name."""


def preset_values(name: str) -> dict[str, Any]:
    """A preset's method and sections, to be changed at will.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in PRESETS:
        raise ConfigError(f"There is no preset {name!r}: name one of {', '.join(PRESETS)}.")
    return copy.deepcopy({"method": PRESETS[name].method, **PRESETS[name].sections})
