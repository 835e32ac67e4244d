"""JSON that every reader of JSON takes."""

import json
from types import MappingProxyType

import pytest

from roselora.json_text import json_text


def test_what_is_no_finite_number_is_null_at_any_depth() -> None:
    value = MappingProxyType({"a": [float("nan"), (1.5, float("-inf"))], "b": {"c": float("inf"), "d": True}})
    read = json.loads(json_text(value), parse_constant=pytest.fail)
    assert read == {"a": [None, [1.5, None]], "b": {"c": None, "d": True}}
