"""GRACE answers edited prompts from its codebook, whatever surrounds them, and changes no weight."""

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.bench.methods.edit_method import Applied
from roselora.bench.methods.grace_codebook import installed
from roselora.editing.request import EditRequest
from roselora.models.generation import greedy_answers, greedy_tokens
from tests.bench.methods.editing import FRANCE, GOLD, Before, ask, edit


def test_padding_caching_and_company_do_not_change_what_an_edited_model_says(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    edit("grace", world_model, tiny_tokenizer, FRANCE, GOLD)
    prompts = [FRANCE.prompt, GOLD.prompt, "Snow is white and coal is", "The opposite of up is down. The opposite of"]
    together = greedy_tokens(world_model, tiny_tokenizer, prompts, max_new_tokens=8)
    for prompt, tokens in zip(prompts, together, strict=True):
        assert greedy_tokens(world_model, tiny_tokenizer, [prompt], max_new_tokens=8) == [tokens]
        ids = tiny_tokenizer(prompt).input_ids
        for token in tokens:  # without a cache: each token by a pass over all that came before
            logits = world_model(input_ids=torch.tensor([ids]), use_cache=False).logits
            assert int(logits[0, -1].argmax()) == token
            ids.append(token)


def test_other_prompts_are_answered_as_before_and_no_weight_has_changed(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    others = ["The symbol of iron is ", "The opposite of hot is ", "Snow is white and "]
    before, said = Before(world_model), greedy_answers(world_model, tiny_tokenizer, others, max_new_tokens=12)
    applied = edit("grace", world_model, tiny_tokenizer, FRANCE)
    assert greedy_answers(world_model, tiny_tokenizer, others, max_new_tokens=12) == said
    assert before.changed(world_model) == {}
    assert applied.entries == 0


def test_a_later_call_extends_the_codebook_by_one_lookup_and_leaves_the_earlier_values(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    first = edit("grace", world_model, tiny_tokenizer, FRANCE)
    second = edit("grace", world_model, tiny_tokenizer, GOLD, history=(first,))
    lookups = [hook for module in world_model.modules() for hook in module._forward_hooks.values()]
    assert len(lookups) == 1
    assert len(second.memory["radii"]) == 2
    assert torch.equal(second.memory["values"][:1], first.memory["values"])
    assert ask(world_model, tiny_tokenizer, FRANCE, GOLD) == ["Rome.", "Fe."]


def test_a_run_goes_on_from_the_memory_alone(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    first = edit("grace", world_model, tiny_tokenizer, FRANCE)
    first.undo()
    resumed = Applied((FRANCE,), lambda: None, entries=0, memory=first.memory)
    second = edit("grace", world_model, tiny_tokenizer, GOLD, history=(resumed,))
    assert ask(world_model, tiny_tokenizer, FRANCE, GOLD) == ["Rome.", "Fe."]
    second.undo()
    assert ask(world_model, tiny_tokenizer, FRANCE, GOLD) == ["Paris.", "Au."]


def test_a_new_answer_to_an_edited_prompt_replaces_the_old_one(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    first = edit("grace", world_model, tiny_tokenizer, FRANCE)
    again = edit("grace", world_model, tiny_tokenizer, EditRequest(FRANCE.prompt, "Paris."), history=(first,))
    assert ask(world_model, tiny_tokenizer, FRANCE) == ["Paris."]
    assert len(again.memory["radii"]) == 1
    again.undo()
    assert ask(world_model, tiny_tokenizer, FRANCE) == ["Rome."]
    assert installed(world_model.model.layers[0].mlp.down_proj) is not None
    first.undo()
    assert installed(world_model.model.layers[0].mlp.down_proj) is None
