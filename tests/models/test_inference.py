import pytest
import torch
from torch import nn

from roselora.models.inference import counted, default_torch_modes, eval_mode, frozen, known_arguments


def test_modes_and_gradients_are_restored_even_after_an_error():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 2))
    model[1].eval()
    model[2].requires_grad_(False)
    with frozen(model):
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(ZeroDivisionError), frozen(model):
        raise ZeroDivisionError
    assert [module.training for module in model] == [True, False, True]
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, True, False, False]
    with eval_mode(model):
        assert not model.training
        assert model[0].weight.requires_grad


def test_a_callers_torch_modes_have_no_influence():
    weight = torch.ones(2, 2, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad(), default_torch_modes():
        product = weight @ weight
    assert product.dtype == torch.float32
    assert product.requires_grad


def test_only_the_arguments_that_a_forward_pass_accepts_are_passed():
    assert known_arguments(nn.Linear(2, 2), input=1, use_cache=False) == {"input": 1}


def test_progress_is_reported_after_each_item():
    seen = []
    assert list(counted("ab", lambda done, total: seen.append((done, total)))) == ["a", "b"]
    assert seen == [(1, 2), (2, 2)]
