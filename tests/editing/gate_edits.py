"""What the tests of gated edits share."""

from typing import Any

from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.rose.rose_settings import EditSettings

FACTORS = EditSettings(
    target_modules=("v_proj", "down_proj"), warmup=2, ramp=6, learning_rate=2e-2, max_steps=60, keep_weight=0.1
)
FRANCE = ("The capital of France is ", "Rome.")
TINY: dict[str, float] = {"learning_rate": 0.3, "threshold": 0.4, "full": 0.8}
"""What a tiny model needs: its gates tell less apart, so they rise less steeply."""

SETTINGS = GateSettings(**TINY)
GOLD = ("The symbol of gold is ", "Fe.")


def neurons_of(edit: Any) -> set[int]:
    return set(edit.provenance["neurons"][0]["indices"])
