from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.bench.methods.answer_training import (
    BatchTrainingConfig,
    TrainingConfig,
    mean_answer_loss,
    train_answers,
)
from roselora.editing.methods.token_batches import IGNORED, LabelledRow, answer_rows, token_batch
from roselora.editing.request import EditRequest
from tests.bench.methods.editing import FRANCE, GOLD, Before

REQUESTS = (FRANCE, GOLD, EditRequest("Snow is", "blue"), EditRequest("The opposite of up is", "left."))


def rows_of(tokenizer: PreTrainedTokenizerFast, requests: Sequence[EditRequest]) -> list[list[LabelledRow]]:
    return [answer_rows(tokenizer, request) for request in requests]


def matrix(model: LlamaForCausalLM, layer: int = 1) -> nn.Parameter:
    return model.model.layers[layer].mlp.down_proj.weight


class EveryLogit(nn.Module):
    """A model that can only compute all of its logits."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
        return self.model(input_ids=input_ids, attention_mask=attention_mask)


def test_the_loss_is_the_mean_over_answer_tokens_and_eos_of_every_row_computed_plainly(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    losses = []
    for request in REQUESTS:
        prompt = tiny_tokenizer(request.prompt).input_ids
        space = "" if request.prompt.endswith(" ") else " "
        answer = [*tiny_tokenizer(space + request.target).input_ids, tiny_tokenizer.eos_token_id]
        logits = world_model(input_ids=torch.tensor([prompt + answer])).logits[0]
        losses.append(functional.cross_entropy(logits[len(prompt) - 1 : -1], torch.tensor(answer), reduction="none"))
    batch = token_batch([row for own in rows_of(tiny_tokenizer, REQUESTS) for row in own])
    torch.testing.assert_close(mean_answer_loss(world_model, batch), torch.cat(losses).mean())
    torch.testing.assert_close(mean_answer_loss(EveryLogit(world_model), batch), torch.cat(losses).mean())


def test_logits_are_computed_only_where_some_row_has_a_label(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    row = token_batch(answer_rows(tiny_tokenizer, FRANCE))
    positions: list[int] = []
    world_model.lm_head.register_forward_pre_hook(lambda _, inputs: positions.append(inputs[0].shape[1]))
    mean_answer_loss(world_model, row)
    assert positions == [int((row.labels != IGNORED).sum())]


def test_each_epoch_goes_over_all_requests_once_in_an_order_that_the_seed_gives(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    seen: list[tuple[int, ...]] = []
    world_model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(tuple(kwargs["attention_mask"].sum(1).tolist())), with_kwargs=True
    )
    rows = rows_of(tiny_tokenizer, REQUESTS)
    lengths = sorted(len(row.ids) for own in rows for row in own)
    assert len(set(lengths)) == len(lengths)

    orders = []
    for seed in (0, 0, 1):
        seen.clear()
        config = BatchTrainingConfig(1e-4, epochs=4, batch_size=3, stop_loss=0.0, seed=seed)
        assert train_answers(world_model, [matrix(world_model)], rows, config, batch_size=3) == 8 == config.steps(4)
        assert [len(batch) for batch in seen] == [3, 1] * 4
        for first, second in zip(seen[::2], seen[1::2], strict=True):
            assert sorted(first + second) == lengths
        orders.append(list(seen))
    assert orders[0] == orders[1] != orders[2]
    assert len(set(orders[0])) > 2


def test_training_stops_before_the_step_at_which_the_whole_sets_loss_is_below_the_bound(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    rows = rows_of(tiny_tokenizer, [FRANCE])
    weight = matrix(world_model)
    bound = 0.5
    losses = []
    steps = train_answers(
        world_model,
        [weight],
        rows,
        TrainingConfig(1e-2, epochs=50, stop_loss=bound),
        after_step=lambda _: losses.append(float(mean_answer_loss(world_model, token_batch(rows[0])))),
    )
    assert 1 < steps < 50
    assert losses[-1] < bound <= min(losses[:-1])
    assert train_answers(world_model, [weight], rows, TrainingConfig(1e-2, stop_loss=bound)) == 0
    assert (
        train_answers(world_model, [weight], rows, TrainingConfig(1e-9, epochs=9, stop_loss=bound), first_stop=4) == 4
    )


def test_one_answered_request_does_not_stop_the_training_of_the_others(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    rows = rows_of(tiny_tokenizer, [EditRequest("The capital of France is ", "Paris."), GOLD])
    config = TrainingConfig(1e-9, epochs=3, stop_loss=0.5)
    assert float(mean_answer_loss(world_model, token_batch(rows[0]))) < 0.5
    assert train_answers(world_model, [matrix(world_model)], rows, config) == 6


def test_only_the_given_parameters_move_and_nothing_below_them_is_back_propagated(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    before = Before(world_model)
    outputs: list[torch.Tensor] = []
    world_model.model.layers[0].register_forward_hook(lambda _, inputs, output: outputs.append(output))
    train_answers(world_model, [matrix(world_model)], rows_of(tiny_tokenizer, [FRANCE]), TrainingConfig(1e-2, epochs=1))
    assert list(before.changed(world_model)) == ["model.layers.1.mlp.down_proj.weight"]
    assert not outputs[0].requires_grad
    assert before.state_is_the_same(world_model)


def test_the_penalty_is_descended_and_does_not_stop_the_training(
    world_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    rows = rows_of(tiny_tokenizer, [EditRequest("The capital of France is ", "Paris.")])
    weight = matrix(world_model)
    size = float(weight.detach().norm())
    config = TrainingConfig(1e-2, epochs=3, stop_loss=0.0)
    train_answers(world_model, [weight], rows, config, penalty=lambda: 100 * weight.norm())
    assert float(weight.detach().norm()) < size
    assert (
        train_answers(
            world_model, [weight], rows, TrainingConfig(1e-2, stop_loss=9.0), penalty=lambda: 100 * weight.norm()
        )
        == 0
    )
