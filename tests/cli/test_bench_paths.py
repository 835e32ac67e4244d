import inspect
from pathlib import Path
from typing import Any, get_args

import pytest

from roselora.cli.bench import app
from roselora.cli.diff import _kind
from roselora.cli.main import app as main

VERBS: list[Any] = [command.callback for command in app.registered_commands]
OTHERS: list[Any] = [command.callback for command in main.registered_commands]


@pytest.mark.parametrize("verb", [*VERBS, *OTHERS], ids=[verb.__name__ for verb in [*VERBS, *OTHERS]])
def test_every_path_of_a_command_is_taken_as_it_was_typed(
    verb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    annotations = [get_args(parameter.annotation) for parameter in inspect.signature(verb).parameters.values()]
    options = [option for kind, option, *_ in annotations if kind is Path or Path in get_args(kind)]
    assert len(options) > 1 or verb in OTHERS
    for option in options:
        assert option.parser is not None
        assert option.parser("~/x") == tmp_path / "x"
        assert option.parser("./~/x") == Path.cwd() / "~" / "x"


def test_what_is_compared_may_lie_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert (_kind("~/model"), _kind("~/nothing")) == ("model", "edit")
