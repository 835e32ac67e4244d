from typing import Any

import pytest

from roselora.editing.request import EditRequest
from roselora.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "  "}, "prompt"),
        ({"target": ""}, "target"),
        ({"target": "two\nlines"}, "one line"),
        ({"rephrasings": "not a list"}, "rephrasings must be a list"),
        ({"keep": [""]}, "keep"),
        ({"keep": ["The capital of France is"]}, "edited and kept"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused_in_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        EditRequest(**{"prompt": "The capital of France is", "target": "Lyon", **changes})
    assert "\n" not in str(error.value)


def test_a_request_holds_tuples_and_a_stripped_target() -> None:
    request = EditRequest("a", " b ", rephrasings=["c"], keep=["d"])  # type: ignore[arg-type]
    assert (request.target, request.rephrasings, request.keep) == ("b", ("c",), ("d",))
    assert request.prompts == ("a", "c")
