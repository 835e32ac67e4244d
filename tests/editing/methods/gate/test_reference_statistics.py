"""What an MLP does in ordinary text: by hand on a tiny model, and measured once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.editing.methods.gate import reference_statistics as module
from roselora.editing.methods.gate.reference_statistics import reference_statistics, sample, sample_facts


def by_hand(model: LlamaForCausalLM, plain: Tensor, facts: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """E[z zᵀ], E[z] and the importances of block 1, the last of them by a factor of one on every neuron's activity."""
    generator = torch.Generator().manual_seed(module.SEED)
    z, felt = read_and_felt(model, [plain], generator)
    return z.T @ z / len(z), z.mean(0), (felt + read_and_felt(model, facts, generator)[1]) / 2


def read_and_felt(model: LlamaForCausalLM, texts: list[Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What is read at each token, and the mean of the squared gradients over the tokens."""
    mlp = model.model.layers[1].mlp
    read: list[Tensor] = []
    squares = torch.zeros(mlp.config.intermediate_size)
    for batch in (batch for rows in texts for batch in torch.split(rows, module.BATCH)):
        factor = torch.ones(*batch.shape, len(squares), requires_grad=True)
        handles = [
            mlp.register_forward_pre_hook(lambda _, given: read.append(given[0].detach().flatten(0, 1))),
            mlp.down_proj.register_forward_pre_hook(lambda _, given, factor=factor: (given[0] * factor,)),
        ]
        logits = model(batch, use_cache=False).logits.flatten(0, 1)
        for handle in handles:
            handle.remove()
        drawn = torch.multinomial(logits.detach().softmax(-1), 1, generator=generator)[:, 0]
        loss = functional.cross_entropy(logits, drawn, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, factor)
        squares += gradient.square().sum((0, 1))
    z = torch.cat(read)
    return z, squares / len(z)


def test_moments_and_importances_are_those_by_hand(
    tiny_model: Callable[..., LlamaForCausalLM], tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = tiny_model()
    seen: list[tuple[int, int]] = []
    found = reference_statistics(model, tiny_tokenizer, [0, 1], cache=tmp_path, on_progress=lambda *at: seen.append(at))
    text = found[1]
    second, mean, importance = by_hand(model, sample(model, tiny_tokenizer), sample_facts(model, tiny_tokenizer))
    torch.testing.assert_close(text.second, second, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(text.mean, mean, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(text.importance, importance, rtol=1e-3, atol=1e-6)
    assert seen == [(number + 1, len(seen)) for number in range(len(seen))]
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_it_is_measured_once_for_a_model_whatever_becomes_of_it(
    tiny_model: Callable[..., LlamaForCausalLM],
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model()
    first = reference_statistics(model, tiny_tokenizer, [1], cache=tmp_path)
    monkeypatch.setattr(module, "_measure", lambda *_: pytest.fail("measured again"))
    from_file = reference_statistics(tiny_model(), tiny_tokenizer, [1], cache=tmp_path)
    assert torch.equal(from_file[1].importance, first[1].importance)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.mul_(2)
    assert reference_statistics(model, tiny_tokenizer, [1], cache=tmp_path)[1] is first[1]


def test_the_sample_goes_on_from_the_neutral_texts_and_is_the_same_again(
    tiny_model: Callable[..., LlamaForCausalLM], tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny_model()
    before = torch.random.get_rng_state()
    rows = sample(model, tiny_tokenizer)
    assert rows.shape == (len(module.NEUTRAL_TEXTS) * module.SAMPLES, module.START_TOKENS + module.NEW_TOKENS)
    assert tiny_tokenizer.decode(rows[0, : module.START_TOKENS]) == module.NEUTRAL_TEXTS[0][: module.START_TOKENS]
    assert torch.equal(rows, sample(model, tiny_tokenizer))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.equal(rows[0], rows[len(module.NEUTRAL_TEXTS)])
