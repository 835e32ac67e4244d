"""A fact is edited with what follows from it, and never with a question that tests the edit."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.bench.methods import with_consequences
from roselora.bench.methods.edit_method import EditCall
from roselora.bench.methods.editing_methods import METHODS
from roselora.bench.metrics.case_questions import judging_prompts
from roselora.bench.tasks.edit_case import EditCase, Probe
from roselora.editing.request import EditRequest
from tests.bench.methods.editing import FRANCE, GOLD, TINY, Before, ask

IMPLIED = EditRequest(GOLD.prompt, GOLD.target, "gold", ["What is the symbol of gold? "])


@pytest.mark.parametrize("name", ["gate-consequences", "rose-consequences"])
def test_what_follows_is_edited_too_in_one_edit_that_is_undone(
    name: str, world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(with_consequences, "proposed_consequences", lambda *_: (replace(IMPLIED, rephrasings=()),))
    before, config = Before(world_model), replace(METHODS[name].config, **TINY[name])
    france = replace(FRANCE, subject="France")
    applied = METHODS[name].edit(EditCall(world_model, tiny_tokenizer, [france], config))
    assert ask(world_model, tiny_tokenizer, FRANCE, GOLD) == [FRANCE.target, GOLD.target]
    assert applied.requests == (france,)
    applied.undo()
    assert not before.changed(world_model)


@pytest.mark.parametrize(
    ("withheld", "left"),
    [
        ([], [IMPLIED]),
        ([" the Symbol of  gold is"], [replace(IMPLIED, prompt=IMPLIED.rephrasings[0], rephrasings=())]),
        (["What is the symbol of gold?"], [replace(IMPLIED, rephrasings=())]),
        (IMPLIED.prompts, []),
    ],
)
def test_questions_of_the_benchmark_are_left_out(
    withheld: Sequence[str],
    left: list[EditRequest],
    world_model: LlamaForCausalLM,
    tiny_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []

    def stopped(call: EditCall[Any]) -> None:
        seen.extend(call.requests)
        raise KeyboardInterrupt

    monkeypatch.setattr(with_consequences, "proposed_consequences", lambda *_: (IMPLIED,))
    monkeypatch.setattr(with_consequences, "edit_neurons", stopped)
    method = METHODS["gate-consequences"]
    with pytest.raises(KeyboardInterrupt):
        method.edit(EditCall(world_model, tiny_tokenizer, [FRANCE], method.config, withheld=withheld))
    assert [list(request.consequences) for request in seen] == [left]


def test_a_cases_questions_are_all_that_tests_it_but_its_prompt() -> None:
    case = EditCase(
        "made/0",
        "a",
        "b",
        rephrasings=("c",),
        portability={"Reasoning": (Probe("d", ("e",)),)},
        locality={"Nearest_Question": (Probe("f", ("g",)),)},
    )
    assert judging_prompts(case) == ["c", "d", "f"]
    assert judging_prompts(replace(case, behind_sentence="Soup. a"))[0] == "Soup. a"
