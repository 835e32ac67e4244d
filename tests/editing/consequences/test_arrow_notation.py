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
    assert as_line(fact) == line
    assert (fact.subject, fact.form) == (subject, "bare")


@pytest.mark.parametrize("line", ["Lyon is the capital of", "=> France", "Lyon => ", "a |  => b"])
def test_a_line_without_both_sides_is_refused(line: str) -> None:
    with pytest.raises(ConfigError):
        from_line(line, FACT)
