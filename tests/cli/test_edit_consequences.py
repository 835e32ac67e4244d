"""``roselora edit`` with what follows from a fact: proposed, struck, given, and shown by every verb."""

from dataclasses import replace
from typing import Any

import pytest

from roselora.cli import edit_consequences
from roselora.cli.edit_consequences import with_proposed
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError
from tests.cli.test_store_verbs import FACTS, TINY, Invoke, invoke

__all__ = ["invoke"]

FACT = EditRequest(*FACTS[1])
GOLD, UP = EditRequest(*FACTS[0], "gold"), EditRequest(*FACTS[2], "up")
EDIT = ["edit", "world", "--prompt", FACT.prompt, "--target", FACT.target, *TINY]


class Proposing:
    """Stands for an editor that knows what follows."""

    def consequences(self, request: EditRequest) -> tuple[EditRequest, ...]:
        return GOLD, UP


def proposed(request: EditRequest, *, ask: bool = True) -> EditRequest:
    return with_proposed(Proposing(), request, ask=ask)  # type: ignore[arg-type]


def test_all_proposals_are_taken_where_nobody_can_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert proposed(FACT).consequences == (GOLD, UP)
    assert f"2. {UP.prompt} => {UP.target}" in capsys.readouterr().out
    assert proposed(FACT, ask=False).consequences == (GOLD, UP)
    assert capsys.readouterr().out == ""


def test_lines_are_struck_by_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edit_consequences.sys.stdin, "isatty", lambda: True)  # type: ignore[attr-defined]
    answers = iter(["3", "one", "2, 1", ""])
    monkeypatch.setattr(edit_consequences.typer, "prompt", lambda *_, **__: next(answers))  # type: ignore[attr-defined]
    assert proposed(FACT).consequences == (), "asked again until the numbers are known ones"
    assert proposed(FACT).consequences == (GOLD, UP)


def test_a_user_who_gives_up_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edit_consequences.sys.stdin, "isatty", lambda: True)  # type: ignore[attr-defined]

    def give_up(*_: Any, **__: Any) -> str:
        raise edit_consequences.typer.Abort  # type: ignore[attr-defined]

    monkeypatch.setattr(edit_consequences.typer, "prompt", give_up)  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        proposed(FACT)


def test_what_the_user_named_is_not_proposed_again() -> None:
    given = replace(FACT, consequences=(replace(UP, target="out"),))
    assert proposed(given).consequences == (*given.consequences, GOLD)


def test_a_group_is_one_line_of_every_report(invoke: Invoke) -> None:
    said = invoke(*EDIT, "--consequence", f"{GOLD.prompt} => {GOLD.target}", text=True)
    assert "consequence" in said
    (edit,) = invoke("log")
    assert [fact["target"] for fact in edit["consequences"]] == [GOLD.target]
    assert {"and", "1", "consequence"} <= set(invoke("log", text=True).split())
    assert [answer["kind"] for answer in invoke("show", edit["id"])["answers"]] == ["prompt", "consequence"]
    assert invoke("check")["clean"]
    assert invoke("undo", edit["id"])["active"] is False


def test_a_broken_consequence_is_shown(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    from roselora.editing import edit_check

    invoke(*EDIT, "--consequence", f"{GOLD.prompt} => {GOLD.target}")
    ask = edit_check.answers_to

    def forgotten(*args: Any, **kwargs: Any) -> Any:
        return [
            [replace(answer, text="Au") if answer.kind == "consequence" else answer for answer in own]
            for own in ask(*args, **kwargs)
        ]

    monkeypatch.setattr(edit_check, "answers_to", forgotten)
    said = invoke("check", text=True, code=1)
    assert [line.split()[-2:] for line in said.splitlines() if GOLD.prompt in line] == [["Au", "broken"]]


def test_a_consequence_without_an_arrow_is_refused_before_the_model_is_loaded(invoke: Invoke) -> None:
    with pytest.raises(ConfigError, match="PROMPT => TARGET"):
        invoke(*EDIT[:1], "nowhere", *EDIT[2:], "--consequence", "Lyon is the capital of France")
