import torch

from roselora.models.activation_hooks import run_until
from roselora.models.architecture import blocks


def test_the_pass_shows_what_it_runs_and_ends_there(tiny_model):
    model = tiny_model()
    ids = torch.tensor([[3, 4, 5, 6]])
    names = blocks(model)
    whole = model(input_ids=ids, output_hidden_states=True).hidden_states
    seen, later = {}, []
    model.get_submodule(names[1]).register_forward_hook(lambda *_: later.append(1))
    run_until(model, {"input_ids": ids}, {names[0]: lambda given, made: seen.update(given=given, made=made)})
    torch.testing.assert_close(seen["given"], whole[0])
    torch.testing.assert_close(seen["made"], whole[1])
    assert not later


class CallsByKeyword(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(5, 2)

    def forward(self, states):
        return self.inner(input=states)


def test_a_module_that_is_called_by_keyword_shows_its_input_too():
    given, seen = torch.randn(1, 3, 5), []
    run_until(CallsByKeyword(), {"states": given}, {"inner": lambda *pair: seen.append(pair)})
    ((states, made),) = seen
    assert states is given
    assert made.shape == (1, 3, 2)
