"""The command lines that the page shows say what the page does."""

import shlex
from pathlib import Path

import pytest

from roselora.ui.bodies import Body, Consequence, Edit, ExportTo, Many, Note, Nothing, Switch
from roselora.ui.command_lines import Invocation, command_line
from tests.documented.parsing import parse_verb

CALLED = Invocation("-demo", "my edits", Path("exports"), ("--device=cpu", "--dtype=float32", "--force"))
IMPLIED = Consequence(prompt="Lyon is the capital of", target="France", rephrasings=["What is Lyon the capital of?"])


@pytest.mark.parametrize(
    ("action", "body", "loads"),
    [
        ("edit", Edit(prompt="a", target="b", consequences=[IMPLIED], form="bare", dry_run=True), True),
        ("many", Many(text="{}", kind="csv", method="rose"), True),
        ("check", Nothing(), True),
        ("repair", Nothing(), True),
        ("export", ExportTo(format="lora", name="adapter"), True),
        ("undo", Switch(id="0123"), False),
        ("note", Note(id="0123", text="-x"), False),
    ],
)
def test_every_line_can_be_run_and_loads_the_model_as_the_page_did(action: str, body: Body, loads: bool) -> None:
    words = shlex.split(command_line(action, body, CALLED))
    parse_verb(words[1:], names_only=False)
    assert ("--device=cpu" in words) == ("--force" in words) == loads
    assert "--store=my edits" in words


def test_a_consequence_is_written_with_its_wordings() -> None:
    words = shlex.split(command_line("edit", Edit(prompt="a", target="b", consequences=[IMPLIED]), CALLED))
    assert "--consequence=Lyon is the capital of | What is Lyon the capital of? => France" in words
