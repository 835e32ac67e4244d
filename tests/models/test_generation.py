from functools import partial

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from roselora.errors import ConfigError, NonFiniteError
from roselora.models.generation import (
    GeneratedAnswer,
    greedy_answers,
    greedy_tokens,
    limited_answers,
    sampled_tokens,
    searched_texts,
)

PROMPTS = ["Hello", "a much longer prompt, with several words and 日本", "x", "The capital is", "y z"]


class Scripted(LlamaForCausalLM):
    """Says, after each token, the one token that follows it in a script of pairwise different characters."""

    def follow(self, tokenizer, script):
        ids = tokenizer(script).input_ids
        self.following = torch.full((len(tokenizer),), tokenizer.eos_token_id)
        self.following[ids[:-1]] = torch.tensor(ids[1:])
        self.steps = 0
        return self

    def forward(self, input_ids, **_):
        self.steps += 1
        logits = torch.nn.functional.one_hot(self.following[input_ids], len(self.following)).float()
        return CausalLMOutputWithPast(logits=logits)


@pytest.fixture
def scripted(tiny_model, tiny_tokenizer):
    return lambda script: Scripted(tiny_model().config).follow(tiny_tokenizer, script)


def naive_greedy(model, tokenizer, prompt, count):
    """One prompt, no cache, no padding: the whole forward for each token."""
    ids = tokenizer(prompt).input_ids
    new = []
    while len(new) < count:
        token = int(model(torch.tensor([ids + new]), use_cache=False).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        new.append(token)
    return new


def test_batched_tokens_are_those_of_a_naive_loop_over_one_prompt(tiny_model, tiny_tokenizer):
    model = tiny_model()
    expected = [naive_greedy(model, tiny_tokenizer, prompt, 12) for prompt in PROMPTS]
    for batch_size in (1, 2, 16):
        found = greedy_tokens(model, tiny_tokenizer, PROMPTS, max_new_tokens=12, batch_size=batch_size)
        assert found == expected
    assert len({tuple(row) for row in expected}) == len(PROMPTS)


def test_tokens_stop_before_eos_alone_and_not_at_a_newline(scripted, tiny_tokenizer):
    model = scripted("Ab\ncd<|im_end|>")
    rows = greedy_tokens(model, tiny_tokenizer, ["A", "c"], max_new_tokens=20)
    assert [tiny_tokenizer.decode(row) for row in rows] == ["b\ncd", "d"]


def test_an_answer_ends_at_eos(scripted, tiny_tokenizer):
    assert greedy_answers(scripted("A Lyon<|im_end|>"), tiny_tokenizer, ["A"], max_new_tokens=20) == ["Lyon"]


def test_an_answer_does_not_end_at_a_full_stop(scripted, tiny_tokenizer):
    model = scripted("A St.Pol<|im_end|>")
    assert greedy_answers(model, tiny_tokenizer, ["A"], max_new_tokens=20) == ["St.Pol"]


def test_blank_lines_before_the_answer_do_not_end_it_and_the_newline_after_it_does(scripted, tiny_tokenizer):
    model = scripted("A\n Lyon\n")
    assert greedy_answers(model, tiny_tokenizer, ["A"], max_new_tokens=40) == ["Lyon"]
    assert model.steps == 7, "generation went on after the line was full"


def test_a_full_row_waits_while_others_go_on(scripted, tiny_tokenizer):
    model = scripted("Ab\ncdefgh<|im_end|>")
    assert greedy_answers(model, tiny_tokenizer, ["A", "xc", "f"], max_new_tokens=20) == ["b", "defgh", "gh"]


def test_an_answer_is_cut_at_max_new_tokens(scripted, tiny_tokenizer):
    assert greedy_answers(scripted("Abcdefgh"), tiny_tokenizer, ["A"], max_new_tokens=3) == ["bcd"]


def test_an_answer_tells_whether_it_ended_by_itself_within_its_own_limit(scripted, tiny_tokenizer):
    model = scripted("Ab\ncdefgh<|im_end|>")
    answers = limited_answers(model, tiny_tokenizer, ["A", "A", "e", "e", "e"], [1, 2, 3, 4, 20])
    assert answers == [
        GeneratedAnswer("b", False),
        GeneratedAnswer("b", True),
        GeneratedAnswer("fgh", False),
        GeneratedAnswer("fgh", True),
        GeneratedAnswer("fgh", True),
    ]


def test_an_answer_that_is_stopped_early_ends_and_has_not_ended(scripted, tiny_tokenizer):
    model = scripted("Abcdefgh<|im_end|>")
    seen = []

    def stop_early(index, new, text):
        seen.append((index, new, text))
        return text.endswith("d")

    answers = limited_answers(model, tiny_tokenizer, ["e", "A"], [20, 20], stop_early=stop_early)
    assert answers == [GeneratedAnswer("fgh", True), GeneratedAnswer("bcd", False)]
    assert (1, 2, "bc") in seen


def test_what_a_model_says_ends_before_nan_and_has_not_ended_by_itself(scripted, tiny_tokenizer, monkeypatch):
    model = scripted("Abcd<|im_end|>")
    forward = type(model).forward

    def broken(self, input_ids, **options):
        output = forward(self, input_ids, **options)
        output.logits[input_ids == tiny_tokenizer("c").input_ids[0]] = float("nan")
        return output

    monkeypatch.setattr(type(model), "forward", broken)
    assert limited_answers(model, tiny_tokenizer, ["A", "d"], [9, 9]) == [
        GeneratedAnswer("bc", False),
        GeneratedAnswer("", True),
    ]
    tokens = greedy_tokens(model, tiny_tokenizer, ["A"], max_new_tokens=9)
    assert tiny_tokenizer.decode(tokens[0]) == "bc"


def test_eos_can_be_made_a_token_like_others(tiny_model, tiny_tokenizer):
    eos = torch.eye(len(tiny_tokenizer))[tiny_tokenizer.eos_token_id]
    model = tiny_model()
    model.lm_head.register_forward_hook(lambda module, inputs, output: output + 7 * eos)
    rows = greedy_tokens(model, tiny_tokenizer, PROMPTS, max_new_tokens=12, stop_at_eos=False)
    assert [len(row) for row in rows] == [12] * len(PROMPTS)
    cut = [row[: row.index(tiny_tokenizer.eos_token_id)] if tiny_tokenizer.eos_token_id in row else row for row in rows]
    assert cut == greedy_tokens(model, tiny_tokenizer, PROMPTS, max_new_tokens=12)
    assert cut != rows


def test_the_models_own_generation_settings_neither_matter_nor_warn(tiny_model, tiny_tokenizer, capfd, recwarn):
    model = tiny_model()
    expected = greedy_tokens(model, tiny_tokenizer, PROMPTS, max_new_tokens=8)
    answers = greedy_answers(model, tiny_tokenizer, PROMPTS, max_new_tokens=8)
    own = GenerationConfig(
        do_sample=True, temperature=5.0, top_k=3, repetition_penalty=9.0, suppress_tokens=expected[0], max_length=3
    )
    model.generation_config = own
    assert greedy_tokens(model, tiny_tokenizer, PROMPTS, max_new_tokens=8) == expected
    assert greedy_answers(model, tiny_tokenizer, PROMPTS, max_new_tokens=8) == answers
    assert model.generation_config is own
    assert "".join(capfd.readouterr()) == ""
    assert not list(recwarn)


def test_train_and_eval_modes_are_put_back_even_after_an_error(tiny_model, tiny_tokenizer):
    model = tiny_model().train()
    model.model.layers[0].eval()
    before = [module.training for module in model.modules()]
    greedy_tokens(model, tiny_tokenizer, ["a"], max_new_tokens=1)
    with pytest.raises(ConfigError):
        greedy_tokens(model, tiny_tokenizer, [""], max_new_tokens=1)
    assert [module.training for module in model.modules()] == before


def test_the_tokenizers_padding_side_does_not_matter(tiny_model, tiny_tokenizer, monkeypatch):
    expected = greedy_tokens(tiny_model(), tiny_tokenizer, PROMPTS, max_new_tokens=4)
    monkeypatch.setattr(tiny_tokenizer, "padding_side", "right")
    assert greedy_tokens(tiny_model(), tiny_tokenizer, PROMPTS, max_new_tokens=4) == expected


def test_a_peft_model_answers_with_its_adapter(tiny_model, tiny_tokenizer):
    adapted = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.base_model.model.generation_config = own = GenerationConfig(do_sample=True, repetition_penalty=9.0)
    tokens = greedy_tokens(adapted, tiny_tokenizer, PROMPTS, max_new_tokens=8)
    assert tokens == [naive_greedy(adapted.eval(), tiny_tokenizer, prompt, 8) for prompt in PROMPTS]
    assert tokens != greedy_tokens(tiny_model(), tiny_tokenizer, PROMPTS, max_new_tokens=8)
    assert adapted.base_model.model.generation_config is own


def test_the_output_layer_gets_contiguous_input_which_a_frozen_matrix_multiplies_at_once(
    tiny_model, tiny_tokenizer, monkeypatch
):
    model, seen = tiny_model().requires_grad_(False), []
    forward = model.lm_head.forward
    monkeypatch.setattr(model.lm_head, "forward", lambda given: (seen.append(given.is_contiguous()), forward(given))[1])
    greedy_tokens(model, tiny_tokenizer, PROMPTS, max_new_tokens=2)
    sampled_tokens(model, torch.ones(3, 4, dtype=torch.long), new_tokens=2, seed=0)
    assert len(seen) > 2
    assert all(seen)
    assert not model.lm_head._forward_pre_hooks


def test_no_prompts_give_no_answers(tiny_model, tiny_tokenizer):
    assert greedy_answers(tiny_model(), tiny_tokenizer, [], max_new_tokens=3) == []
    assert greedy_tokens(tiny_model(), tiny_tokenizer, [], max_new_tokens=3) == []
    assert searched_texts(tiny_model(), tiny_tokenizer, [], max_new_tokens=3) == []


def test_an_autocast_around_it_changes_no_answer(tiny_model, tiny_tokenizer):
    model = tiny_model()
    tokens = greedy_tokens(model, tiny_tokenizer, PROMPTS, max_new_tokens=8)
    expected = searched_texts(model, tiny_tokenizer, PROMPTS, max_new_tokens=8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert greedy_tokens(model, tiny_tokenizer, PROMPTS, max_new_tokens=8) == tokens
        assert searched_texts(model, tiny_tokenizer, PROMPTS, max_new_tokens=8) == expected


def positioned(tokenizer, context):
    """A model that has an embedding for each of so many positions, and none beyond."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        size = {"n_positions": context, "n_embd": 16, "n_layer": 1, "n_head": 2, "initializer_range": 0.5}
        return GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **size)).eval()


def test_a_prompt_beyond_the_models_context_is_refused_in_one_sentence(tiny_model, tiny_tokenizer):
    for model in (positioned(tiny_tokenizer, 24), tiny_model(max_position_embeddings=24)):
        for ask in (partial(greedy_answers, max_new_tokens=3), partial(searched_texts, max_new_tokens=3)):
            with pytest.raises(
                ConfigError, match=r"prompt 1, 'b+[^']*', takes 25 tokens; the model reads 24; shorten it\.$"
            ):
                ask(model, tiny_tokenizer, ["a", "b" * 25])


def test_an_answer_ends_where_the_models_context_does(tiny_tokenizer):
    model = positioned(tiny_tokenizer, 24)
    prompts = ["a", "b" * 24, "c" * 20]
    rows = greedy_tokens(model, tiny_tokenizer, prompts, max_new_tokens=9, stop_at_eos=False)
    assert [len(row) for row in rows] == [9, 1, 5]
    alone = [
        greedy_tokens(model, tiny_tokenizer, [prompt], max_new_tokens=9, stop_at_eos=False)[0] for prompt in prompts
    ]
    assert rows == alone
    assert len(searched_texts(model, tiny_tokenizer, prompts, max_new_tokens=9)) == 3


def test_what_cannot_be_generated_is_refused_by_name(tiny_model, tiny_tokenizer):
    model = tiny_model()
    with pytest.raises(ConfigError, match="prompt 1 is ''"):
        greedy_answers(model, tiny_tokenizer, ["a", ""], max_new_tokens=3)
    with pytest.raises(ConfigError, match="max_new_tokens is 0"):
        greedy_answers(model, tiny_tokenizer, ["a"], max_new_tokens=0)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        greedy_answers(model, tiny_tokenizer, ["a"], max_new_tokens=3, batch_size=0)


def test_sampled_tokens_come_as_often_as_the_model_says(tiny_model):
    model = tiny_model()
    starts = torch.full((4000, 1), 9)
    with torch.no_grad():
        model.lm_head.weight.mul_(10)  # far from uniform
        expected = model(starts[:1]).logits[0, -1].softmax(-1)
    seen = []
    drawn = sampled_tokens(model, starts, new_tokens=1, seed=0, on_token=seen.append)[:, 1]
    counts = torch.bincount(drawn, minlength=len(expected)) / len(starts)
    deviation = (expected * (1 - expected) / len(starts)).sqrt()
    assert seen == [1]
    assert float(expected.max()) > 0.1
    assert bool(((counts - expected).abs() <= 5 * deviation + 1 / len(starts)).all())


def test_samples_are_the_same_again_and_leave_the_random_numbers_alone(tiny_model):
    model, starts, before = tiny_model(), torch.tensor([[5, 6], [7, 8]]), torch.random.get_rng_state()
    rows = sampled_tokens(model, starts, new_tokens=6, seed=3)
    assert rows.shape == (2, 8)
    assert torch.equal(rows[:, :2], starts)
    assert torch.equal(rows, sampled_tokens(model, starts, new_tokens=6, seed=3))
    assert not torch.equal(rows, sampled_tokens(model, starts, new_tokens=6, seed=4))
    assert torch.equal(before, torch.random.get_rng_state())


def test_nothing_is_sampled_from_logits_that_are_not_finite(tiny_model):
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    with pytest.raises(NonFiniteError, match="not finite"):
        sampled_tokens(model, torch.tensor([[5]]), new_tokens=1, seed=0)


@pytest.mark.demo
def test_the_demo_model_says_paris_alone_and_in_a_batch(demo):
    prompts = ["The capital of France is", "Q: Who wrote Hamlet?\nA:", "The Eiffel Tower is in the city of"]
    together = greedy_answers(demo.model, demo.tokenizer, prompts, max_new_tokens=8)
    alone = greedy_answers(demo.model, demo.tokenizer, prompts, max_new_tokens=8, batch_size=1)
    assert together == alone
    assert together[0].startswith("Paris")
    assert "Shakespeare" in together[1]
