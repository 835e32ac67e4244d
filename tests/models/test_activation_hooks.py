import pytest
import torch

from roselora.models.activation_hooks import activations, hooked
from roselora.models.architecture import block_names


def test_the_pass_shows_what_it_runs_and_ends_there(tiny_model):
    model = tiny_model()
    ids = torch.tensor([[3, 4, 5, 6]])
    names = block_names(model)
    whole = model(input_ids=ids, output_hidden_states=True).hidden_states
    later = []
    model.get_submodule(names[1]).register_forward_hook(lambda *_: later.append(1))
    read = activations(model, {"input_ids": ids}, [names[0]])[names[0]]
    torch.testing.assert_close(read.input, whole[0])
    torch.testing.assert_close(read.output, whole[1])
    assert not later


class CallsByKeyword(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(5, 2)

    def forward(self, states):
        return self.inner(input=states)


def test_a_module_that_is_called_by_keyword_shows_its_input_too():
    given = torch.randn(1, 3, 5)
    read = activations(CallsByKeyword(), {"states": given}, ["inner"])["inner"]
    assert torch.equal(read.input, given)
    assert read.output.shape == (1, 3, 2)


def test_a_hook_may_change_what_goes_in_and_comes_out_and_is_gone_afterwards():
    module, given = CallsByKeyword(), torch.randn(1, 3, 5)
    plain = module(given)
    with hooked(inputs={module.inner: lambda states: 2 * states}):
        torch.testing.assert_close(module(given), module.inner.bias + 2 * (plain - module.inner.bias))
    with hooked(outputs={module.inner: lambda states, made: made + states.sum()}):
        torch.testing.assert_close(module(given), plain + given.sum())
    with pytest.raises(ZeroDivisionError), hooked(outputs={module.inner: lambda *_: 1 / 0}):
        module(given)
    assert torch.equal(module(given), plain)
