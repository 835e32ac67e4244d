"""Every command that a page names can be typed: a verb or option that was renamed shows here, with its place."""

import pytest

from tests.documented.commands import SCRIPTS, Command, documented
from tests.documented.parsing import parse, parse_script

COMMANDS = documented()


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_every_command_that_a_page_names_can_be_typed(command: Command) -> None:
    parse(command)


def test_the_pages_are_read_to_the_end() -> None:
    places = {command.place.partition(":")[0] for command in COMMANDS}
    assert {"README.md", "docs/editing.md", "docs/conformance.md", "benchmarks/results/editing/README.md"} <= places
    assert {f"docs/tutorials/{name}.ipynb" for name in ("compare-methods", "correct-facts", "fine-tune")} <= places
    assert len(COMMANDS) > 80


@pytest.mark.parametrize(
    "words",
    [
        "roselora edti demo",
        "roselora edit demo --promt x --target y",
        "roselora bench glue --n some",
        "make bread",
        "python benchmarks/baking.py",
        "python benchmarks/edit_speed.py --request",
        "torchrun --nproc-per-node 2 -m roselora.cli.main trian config.yaml",
    ],
)
def test_what_is_misspelt_is_found(words: str) -> None:
    with pytest.raises((Exception, SystemExit)):
        parse(Command("here", tuple(words.split())))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_starts(script: object) -> None:
    with pytest.raises(ValueError, match="--no-such-option"):
        parse_script(str(script), ["--no-such-option"])
