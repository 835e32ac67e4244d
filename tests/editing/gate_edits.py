"""What the tests of gated edits share."""

from typing import Any

from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.rose.rose_settings import EditSettings

FACTORS = EditSettings(
    target_modules=("v_proj", "down_proj"), warmup=2, ramp=6, learning_rate=2e-2, max_steps=60, keep_weight=0.1
)
FRANCE = ("The capital of France is ", "Rome.")
SETTINGS = GateSettings(learning_rate=0.3, threshold=0.8, full=0.95)  # what a tiny model needs
GOLD = ("The symbol of gold is ", "Fe.")


def neurons_of(edit: Any) -> set[int]:
    return set(edit.provenance["neurons"]["indices"])
