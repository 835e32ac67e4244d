from dataclasses import replace
from pathlib import Path

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.bench.methods.editing_methods import METHODS
from roselora.bench.metrics.case_scoring import CaseScorer
from roselora.bench.records.edit_bench_records import EditRecord
from roselora.bench.running.edit_plan import EditPlan
from roselora.bench.running.edit_run import EditingRun, ResultLog
from roselora.bench.tasks.edit_case import EditCase, Probe
from roselora.editing.request import EditRequest
from roselora.errors import UnsupportedError
from tests.bench.methods.editing import FRANCE, GOLD, Before, edit

FACT_IN_PROMPT = METHODS["fact-in-prompt"]


def test_facts_are_lines_of_prompt_and_target_as_the_model_would_say_them(
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    requests = [EditRequest("Snow is", "red."), EditRequest("Who is Bo?", "Eve", space=False)]
    assert FACT_IN_PROMPT.before is not None
    assert FACT_IN_PROMPT.before(tiny_tokenizer, requests) == "Snow is red.\nWho is Bo?Eve\n"


def test_nothing_is_changed_and_facts_that_fill_half_of_the_context_are_refused(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    before = Before(world_model)
    applied = edit("fact-in-prompt", world_model, tiny_tokenizer, FRANCE)
    assert (applied.entries, before.changed(world_model)) == (0, {})
    facts = len("The capital of France is Rome.\nThe symbol of gold is Fe.\n")  # a token a byte
    world_model.config.max_position_embeddings = 2 * facts
    edit("fact-in-prompt", world_model, tiny_tokenizer, GOLD, history=(applied,))
    world_model.config.max_position_embeddings = 2 * facts - 1
    with pytest.raises(UnsupportedError, match=f"2 facts take {facts} tokens"):
        edit("fact-in-prompt", world_model, tiny_tokenizer, GOLD, history=(applied,))


@pytest.mark.parametrize("mode", ["single", "sequential"])
def test_a_run_puts_the_facts_that_are_edited_before_every_question(
    mode: str, world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    snow = {"Elsewhere": (Probe("Snow is", ()),)}
    cases = (
        EditCase("made/0", "The capital of France is", "Rome.", locality=snow),
        EditCase("made/1", "The symbol of gold is", "Fe.", locality=snow),
    )
    facts = ["The capital of France is Rome.\n", "The symbol of gold is Fe.\n"]
    records: list[EditRecord] = []
    plan = EditPlan(cases, {"fact-in-prompt": FACT_IN_PROMPT}, mode, tmp_path)  # type: ignore[arg-type]
    EditingRun(world_model, tiny_tokenizer, plan, ResultLog((), records.append)).run()
    scorer = CaseScorer(world_model, tiny_tokenizer, cases)
    shown = facts if mode == "single" else ["".join(facts)] * 2
    expected = [scorer.score([case], text)[0].bare for case, text in zip(cases, shown, strict=True)]
    for record, scores in zip(records, expected, strict=True):
        assert record.scores is not None
        assert scores is not None
        assert replace(record.scores, kl=None, kl_by={}) == replace(scores, kl=None, kl_by={})
        assert record.scores.kl == pytest.approx(scores.kl, abs=1e-6)
        assert record.scores.kl is not None
        assert record.scores.kl > 1e-6
