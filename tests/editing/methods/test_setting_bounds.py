"""Settings that cannot work are refused in one sentence that names the field and the value."""

import math
from typing import Any

import pytest

from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.errors import ConfigError

BOTH: tuple[tuple[str, Any], ...] = (
    ("max_steps", "x"),
    ("max_steps", -1),
    ("max_steps", 2**64),
    ("max_steps", None),
    ("max_steps", math.inf),
    ("max_steps", 30.5),
    ("margin", math.nan),
    ("margin", "1"),
    ("learning_rate", 0),
    ("learning_rate", math.inf),
    ("learning_rate", 1e38),
    ("learning_rate", True),
    ("learning_rate", [1]),
)
FACTORS: tuple[tuple[str, Any], ...] = (
    ("seed", "x"),
    ("seed", -1),
    ("seed", 2**64),
    ("seed", None),
    ("rank", 0),
    ("rank", 2.0),
    ("warmup", -3),
    ("alpha", math.nan),
    ("density", 0),
    ("density", 1.1),
    ("density", None),
    ("dropout", 1.5),
    ("clamp", -1.0),
    ("clamp", 1e300),
    ("alpha", 10**400),
    ("keep_weight", -1),
    ("target_modules", "q_proj"),
    ("target_modules", [5]),
)
GATES: tuple[tuple[str, Any], ...] = (
    ("depth", 1.5),
    ("ridge", 0),
    ("threshold", 2),
    ("ridge", math.nan),
    ("full", "low"),
    ("lowest_depth", None),
)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        *((EditSettings, *pair) for pair in (*BOTH, *GATES, *FACTORS)),
        *((GateSettings, *pair) for pair in (*BOTH, *GATES)),
    ],
)
def test_an_invalid_value_is_named(kind: Any, name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name) as error:
        kind(**{name: value})
    assert "\n" not in str(error.value)


def test_module_names_are_taken_as_any_list() -> None:
    assert EditSettings(target_modules=["q_proj"]).target_modules == ("q_proj",)  # type: ignore[arg-type]
