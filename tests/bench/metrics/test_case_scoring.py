import copy
import math
from dataclasses import replace

import pytest
import torch

from roselora.bench.metrics.case_questions import Outcome
from roselora.bench.metrics.case_scoring import CaseScorer, form_scores
from roselora.bench.tasks.edit_case import NEAREST, SAME_ANSWER, EditCase, Probe
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
    first, bare = (found.bare for found in scorer.score([FRANCE, BARE]))
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
    before = scorer.score([FRANCE])[0].bare
    with torch.no_grad():
        for weight in world_model.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    after = scorer.score([FRANCE])[0].bare
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
        alone = CaseScorer(world_model, tiny_tokenizer, [case], batch_size=1).score([case])[0].bare
        assert replace(alone, kl=None, kl_by={}) == replace(found.bare, kl=None, kl_by={})


def test_questions_that_ask_for_the_edited_fact_are_shown_apart_and_are_no_part_of_kl(world_model, tiny_tokenizer):
    same = {SAME_ANSWER: (Probe("France has its capital in", ("Paris",)),)}
    case = EditCase("made/0", "The capital of France is", "Rome.", locality=same)
    found = CaseScorer(world_model, tiny_tokenizer, [case]).score([case])[0].bare
    assert found.locality == {SAME_ANSWER: 1}
    assert found.kl is None
    assert found.token_accuracy.locality == {"Relation_Specificity": 1}


def test_nan_never_scores(world_model, tiny_tokenizer):
    scorer = CaseScorer(world_model, tiny_tokenizer, [FRANCE], fluency=True)
    with torch.no_grad():
        world_model.lm_head.weight.fill_(math.nan)
    broken = scorer.score([FRANCE])[0].bare
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


ASKING = replace(FRANCE, behind_sentence="Snow is white. The capital of France is")


def wrapped(case, before, after):
    """The case with a text before and after each of its questions."""

    def around(groups):
        return {
            name: tuple(replace(probe, prompt=before + probe.prompt + after) for probe in probes)
            for name, probes in groups.items()
        }

    return replace(
        case,
        key=f"{case.key} {before}",
        prompt=before + case.prompt + after,
        rephrasings=tuple(before + prompt + after for prompt in case.rephrasings),
        behind_sentence=before + case.behind_sentence + after,
        portability=around(case.portability),
        locality=around(case.locality),
    )


def nudged(model):
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))


def test_in_chat_every_question_is_a_users_turn_and_is_compared_with_the_base_model_in_chat(
    world_model, tiny_tokenizer
):
    chatting = copy.deepcopy(tiny_tokenizer)
    chatting.chat_template = (
        "{% for m in messages %}U: {{ m['content'] }}{% endfor %}{% if add_generation_prompt %}{{ ' A:' }}{% endif %}"
    )
    by_hand = wrapped(ASKING, "U: ", " A:")
    both = CaseScorer(world_model, chatting, [ASKING], forms=("bare", "chat"))
    apart = CaseScorer(world_model, tiny_tokenizer, [ASKING, by_hand])
    nudged(world_model)
    (found,) = both.score([ASKING])
    bare, chat = (each.bare for each in apart.score([ASKING, by_hand]))
    assert replace(found.bare, kl=None, kl_by={}) == replace(bare, kl=None, kl_by={})
    assert found.bare.kl == pytest.approx(bare.kl, abs=1e-5)
    for field in ("answer", "reliability", "behind_sentence", "generalization", "portability", "locality"):
        assert getattr(found.chat, field) == getattr(chat, field)
    assert found.chat.kl == pytest.approx(chat.kl, abs=1e-5)
    assert found.chat.kl != pytest.approx(bare.kl, abs=1e-3)
    (alone,) = CaseScorer(world_model, chatting, [ASKING], forms=("chat",)).score([ASKING])
    assert alone.bare is None
    assert alone.chat.locality == {"Relation_Specificity": 1}


def test_a_text_before_every_question_is_read_with_it_and_changes_no_expectation(world_model, tiny_tokenizer):
    text = "Snow is white. "
    scorer = CaseScorer(world_model, tiny_tokenizer, [ASKING])
    behind = scorer.score([ASKING], text)[0].bare
    plain = scorer.score([ASKING])[0].bare
    by_hand = wrapped(ASKING, text, "")
    expected = CaseScorer(world_model, tiny_tokenizer, [by_hand]).score([by_hand])[0].bare
    assert (behind.answer, behind.reliability) == (expected.answer, expected.reliability)
    assert behind.token_accuracy.portability == expected.token_accuracy.portability
    assert (plain.kl, plain.locality) == (pytest.approx(0, abs=1e-9), {"Relation_Specificity": 1})
    assert (expected.kl, expected.locality) == (pytest.approx(0, abs=1e-9), {"Relation_Specificity": 1})
    assert behind.kl > 1e-6, "the base model was asked without the text"


def test_means_are_taken_within_sub_types_and_questions_apart_are_no_part_of_kl():
    generated = [
        Outcome("reliability", "", 1.0),
        Outcome("behind_sentence", "", 0.0),
        Outcome("generalization", "", 1.0),
        Outcome("generalization", "", 0.0),
    ]
    forced = [
        Outcome("locality", "Forgetfulness", 1.0, kl=0.5),
        Outcome("locality", "Forgetfulness", 0.0, kl=1.5),
        Outcome("locality", NEAREST, 0.0, kl=7.0),
        Outcome("locality", "Forgetfulness", 0.25),  # a teacher-forced answer of EasyEdit's
    ]
    found = form_scores("Rome", generated, forced)
    assert (found.reliability, found.behind_sentence, found.generalization) == (1.0, 0.0, 0.5)
    assert found.locality == {"Forgetfulness": 0.5, NEAREST: 0.0}
    assert found.kl_by == {"Forgetfulness": 1.0, NEAREST: 7.0}
    assert found.kl == 1.0
