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
        ({"keep": "cd"}, "keep must be a list"),
        ({"keep": b"cd"}, "keep must be a list"),
        ({"keep": {"cd": 1}}, "keep must be a list"),
        ({"keep": 5}, "keep must be a list"),
        ({"rephrasings": [None]}, "Every text in rephrasings must be a text, not None"),
        ({"prompt": None}, "prompt of an edit must be a text, not None"),
        ({"target": 4}, "target of an edit must be a text, not 4"),
        ({"subject": 5}, "subject of an edit must be a text, not 5"),
        ({"subject": ""}, "subject of an edit must not be empty"),
        ({"prompt": "a \ud83c is"}, "lone surrogate at character 3"),
        ({"space": 1}, "space must be true or false"),
        ({"form": "loud"}, "form must be one of bare, chat, both, not 'loud'"),
        ({"form": None}, "form must be one of bare, chat, both, not None"),
        ({"form": ["chat"]}, "form must be one of bare, chat, both"),
        ({"keep": ["The capital of France is"]}, "edited and kept"),
    ],
)
def test_an_invalid_request_is_refused_in_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        EditRequest(**{"prompt": "The capital of France is", "target": "Lyon", **changes})
    assert "\n" not in str(error.value)


def test_a_request_holds_tuples_and_a_stripped_target() -> None:
    request = EditRequest("a", " b ", rephrasings=["c"], keep=["d"])  # type: ignore[arg-type]
    assert (request.target, request.rephrasings, request.keep) == ("b", ("c",), ("d",))
    assert request.prompts == ("a", "c")


def test_a_group_has_facts_without_consequences_of_their_own() -> None:
    implied = EditRequest("Lyon is the capital of", "France")
    group = EditRequest("The capital of France is", "Lyon", consequences=[implied])  # type: ignore[arg-type]
    assert group.facts == (EditRequest("The capital of France is", "Lyon"), implied)
    assert implied.facts == (implied,)
    with pytest.raises(ConfigError, match="cannot have consequences"):
        EditRequest("a", "b", consequences=(group,))


@pytest.mark.parametrize(
    "consequences",
    [
        "Lyon => France",
        [{"prompt": "a", "target": "b"}],
        7,
        [EditRequest("The capital of France is", "Nice")],
        [EditRequest("a", "b"), EditRequest("c", "d", rephrasings=("a",))],
        [EditRequest("a", "b", keep=("The capital of France is",))],
    ],
)
def test_consequences_that_are_none_or_contradict_are_refused(consequences: Any) -> None:
    with pytest.raises(ConfigError):
        EditRequest("The capital of France is", "Lyon", consequences=consequences)
