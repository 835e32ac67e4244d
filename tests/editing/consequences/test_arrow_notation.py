"""Consequences as lines of text."""

import pytest

from roselora.editing.consequences.arrow_notation import as_line, from_line
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError

FACT = EditRequest("The capital of France is", "Lyon", form="bare")


@pytest.mark.parametrize(
    ("line", "subject"),
    [
        ("Lyon is the capital of | What is Lyon the capital of? => France", "Lyon"),
        ("The river of the capital of France is => Rhône", "France"),
        ("The mayor of Marseille says => so", "Marseille"),
        ("If a => b then => c", None),
    ],
)
def test_a_line_is_read_as_it_was_written(line: str, subject: str | None) -> None:
    fact = from_line(line, FACT)
    assert as_line(fact, FACT) == line
    assert (fact.subject, fact.form) == (subject, "bare")


@pytest.mark.parametrize(
    "fact",
    [
        EditRequest("Choose: A | B. It is", "B", form="bare"),
        EditRequest("It maps a to", "a => b", form="bare"),
        EditRequest("高卢的首都是", "里昂", "高卢", form="bare"),
        EditRequest("Lyon lies in", "France", None, ("Lyon, in",), form="bare"),
    ],
)
def test_what_an_arrow_cannot_say_is_said_in_json(fact: EditRequest) -> None:
    line = as_line(fact, FACT)
    assert line.startswith("{")
    assert from_line(line, FACT) == fact


def test_a_name_within_a_word_is_no_subject() -> None:
    assert from_line("The author of Emma is => Ann", EditRequest("The letter of Alpha is", "a")).subject == "Emma"


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        '{"prompt": 1}',
        '{"prompt": "a", "target": "b", "form": "chat"}',
        "Lyon is the capital of",
        "=> France",
        "Lyon => ",
        "a |  => b",
    ],
)
def test_a_line_without_both_sides_is_refused(line: str) -> None:
    with pytest.raises(ConfigError):
        from_line(line, FACT)
