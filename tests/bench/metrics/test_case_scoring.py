import math
from dataclasses import replace

import pytest
import torch

from roselora.bench.metrics.case_scoring import CaseScorer
from roselora.bench.tasks.edit_case import SAME_ANSWER, EditCase, Probe
from roselora.errors import ConfigError, NonFiniteError

FRANCE = EditCase(
    "world/0",
    "The capital of France is",
    "Paris.",
    rephrasings=("France has its capital in", "The opposite of up is"),
    portability={"Reasoning": (Probe("The symbol of gold is", ("gold", "Au")), Probe("Snow is", ("red", "", " ")))},
    locality={"Relation_Specificity": (Probe("The capital of Italy is", ("Rome",)), Probe("Snow is", ("",)))},
)
BARE = EditCase("world/1", "The symbol of iron is", "Pb", portability={"Reasoning": (Probe("Snow is", ("",)),)})


def test_the_unedited_model_is_scored_by_what_it_knows(world_model, tiny_tokenizer):
    scorer = CaseScorer(world_model, tiny_tokenizer, [FRANCE, BARE])
    first, bare = scorer.score([FRANCE, BARE])
    assert first.answer == "Paris."
    assert first.reliability == 1
    assert first.generalization == 0.5
    assert first.portability == {"Reasoning": 0.5}
    assert first.locality == {"Relation_Specificity": 1}
    assert first.kl == pytest.approx(0, abs=1e-9)
    assert first.fluency is None
    assert first.token_accuracy.reliability == 1
    assert first.token_accuracy.locality == {"Relation_Specificity": 1}
    assert (bare.answer, bare.reliability) == ("Fe.", 0)
    assert (bare.generalization, bare.portability, bare.locality, bare.kl) == (None, {}, {}, None)
    assert bare.token_accuracy.portability == {}


def test_an_edit_shows_where_it_reaches(world_model, tiny_tokenizer):
    scorer = CaseScorer(world_model, tiny_tokenizer, [FRANCE], fluency=True)
    before = scorer.score([FRANCE])[0]
    with torch.no_grad():
        for weight in world_model.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    after = scorer.score([FRANCE])[0]
    assert after.locality == {"Relation_Specificity": 0}
    assert after.kl > 0.1
    assert after.token_accuracy.locality["Relation_Specificity"] < 1
    assert after.fluency != before.fluency


def test_cases_are_scored_alike_alone_and_together(world_model, tiny_tokenizer):
    scorer = CaseScorer(world_model, tiny_tokenizer)
    scorer.prepare([FRANCE])
    scorer.prepare([FRANCE, BARE])
    together = scorer.score([BARE, FRANCE])
    for case, found in zip([BARE, FRANCE], together, strict=True):
        alone = CaseScorer(world_model, tiny_tokenizer, [case], batch_size=1).score([case])[0]
        assert replace(alone, kl=None) == replace(found, kl=None)


def test_questions_that_ask_for_the_edited_fact_are_shown_apart_and_are_no_part_of_kl(world_model, tiny_tokenizer):
    same = {SAME_ANSWER: (Probe("France has its capital in", ("Paris",)),)}
    case = EditCase("made/0", "The capital of France is", "Rome.", locality=same)
    (found,) = CaseScorer(world_model, tiny_tokenizer, [case]).score([case])
    assert found.locality == {SAME_ANSWER: 1}
    assert found.kl is None
    assert found.token_accuracy.locality == {"Relation_Specificity": 1}


def test_nan_never_scores(world_model, tiny_tokenizer):
    scorer = CaseScorer(world_model, tiny_tokenizer, [FRANCE], fluency=True)
    with torch.no_grad():
        world_model.lm_head.weight.fill_(math.nan)
    broken = scorer.score([FRANCE])[0]
    assert (broken.answer, broken.reliability, broken.generalization, broken.fluency) == ("", 0, 0, 0)
    assert (broken.portability, broken.locality) == ({"Reasoning": 0}, {"Relation_Specificity": 0})
    assert broken.kl == math.inf
    accuracy = broken.token_accuracy
    assert (accuracy.reliability, accuracy.locality) == (0, {"Relation_Specificity": 0})
    with pytest.raises(NonFiniteError, match="unedited model gives NaN"):
        CaseScorer(world_model, tiny_tokenizer, [FRANCE])


def test_a_case_must_be_prepared_before_it_is_scored_and_a_key_names_one_case(world_model, tiny_tokenizer):
    scorer = CaseScorer(world_model, tiny_tokenizer, [FRANCE])
    with pytest.raises(ConfigError, match="world/1"):
        scorer.score([BARE])
    with pytest.raises(ConfigError, match="Two cases have the key"):
        scorer.prepare([replace(FRANCE, target="Rome")])
