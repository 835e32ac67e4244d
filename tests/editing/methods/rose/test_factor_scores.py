from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import Tensor

from roselora import RoseLoraConfig
from roselora.adapter.tracking import adapters_within
from roselora.editing.methods.rose.factor_scores import backward_scored, locality_aware


def test_an_entry_is_worth_its_use_for_the_edit_less_its_harm_elsewhere() -> None:
    weight, edit, keep = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 3.0, -4.0]), torch.tensor([-1.0, 0.0, 2.0])
    assert locality_aware(0.5)(weight, edit, keep).tolist() == [2 - 1, 3, 2 - 0.5]
    assert locality_aware(0.0)(weight, edit, keep).tolist() == [2, 3, 2]


@pytest.fixture
def adapted(tiny_model: Any) -> Any:
    torch.manual_seed(0)
    config = RoseLoraConfig(
        r=2, density=0.25, warmup=0, ramp=0, total_steps=2, target_modules=["v_proj"], init_lora_weights=False
    )
    return get_peft_model(tiny_model(), config)


def losses(model: Any) -> tuple[Tensor, Tensor]:
    logits = model(input_ids=torch.tensor([[5, 9, 7], [8, 3, 4]])).logits
    return logits[0, -1, 3], logits[1, -1, 6]


def test_the_gradients_are_those_of_the_sum_and_the_scores_those_of_each(adapted: Any) -> None:
    edit, keep = losses(adapted)
    (edit + 3 * keep).backward()
    plain = {name: p.grad.clone() for name, p in adapted.named_parameters() if p.requires_grad}
    adapted.zero_grad()
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def score(weight: Tensor, edit_gradient: Tensor, keep_gradient: Tensor) -> Tensor:
        seen.append((weight.clone(), edit_gradient, keep_gradient))
        return locality_aware(2.0)(weight, edit_gradient, keep_gradient)

    backward_scored(adapted, *losses(adapted), 3.0, score)
    for name, gradient in plain.items():
        torch.testing.assert_close(adapted.get_parameter(name).grad, gradient, rtol=1e-3, atol=1e-5)
    ((_, adapter),) = adapters_within(adapted)
    assert adapter.scores is not None
    for (weight, of_edit, of_keep), found in zip(seen, adapter.scores.values(), strict=True):
        torch.testing.assert_close(found, (weight * of_edit).abs() - 2 * (weight * of_keep).abs())


def test_the_pruner_keeps_the_entries_that_score_highest(adapted: Any) -> None:
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.0)
    wanted: dict[torch.Size, Tensor] = {}

    def by_position(weight: Tensor, edit_gradient: Tensor, keep_gradient: Tensor) -> Tensor:
        wanted[weight.shape] = torch.arange(weight.numel()).reshape(weight.shape).float()
        return wanted[weight.shape]

    backward_scored(adapted, *losses(adapted), 1.0, by_position)
    optimizer.step()
    for name, parameter in adapted.named_parameters():
        if "lora_" not in name:
            continue
        length = parameter.shape[1 if "lora_A" in name else 0]
        ranks = torch.arange(length) >= length - length // 4
        assert torch.equal(
            parameter != 0, ranks[None].expand(2, -1) if "lora_A" in name else ranks[:, None].expand(-1, 2)
        )
