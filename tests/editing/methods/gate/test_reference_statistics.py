"""What an MLP does in ordinary text: by hand on a tiny model, and measured once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.editing.methods.gate import reference_statistics as module
from roselora.editing.methods.gate.reference_statistics import openings, reference_statistics
from roselora.models.generation import sampled_tokens
from roselora.models.tokenization import encode

TURNS = "{% for message in messages %}user:{{ message['content'] }};{% endfor %}"


def with_template(tokenizer: PreTrainedTokenizerFast, template: str) -> PreTrainedTokenizerFast:
    other = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    other.chat_template = template
    return other


def by_hand(model: LlamaForCausalLM, texts: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """E[z zᵀ], E[z] and E[a²]·‖d‖² of block 1, from forward passes over whole texts."""
    mlp = model.model.layers[1].mlp
    read: list[Tensor] = []
    with torch.no_grad():
        for rows in texts:
            handle = mlp.register_forward_pre_hook(lambda _, given: read.append(given[0].flatten(0, 1)))
            model(rows[:, :-1], use_cache=False)  # the last token is drawn, but never read
            handle.remove()
        z = torch.cat(read)
        activity = torch.nn.functional.silu(z @ mlp.gate_proj.weight.T) * (z @ mlp.up_proj.weight.T)
        importance = activity.square().mean(0) * mlp.down_proj.weight.square().sum(0)
    return z.T @ z / len(z), z.mean(0), importance


@pytest.mark.parametrize("template", ["", TURNS])
def test_moments_and_importances_are_those_by_hand(
    tiny_model: Callable[..., LlamaForCausalLM],
    tiny_tokenizer: PreTrainedTokenizerFast,
    template: str,
    tmp_path: Path,
) -> None:
    model, tokenizer = tiny_model(), with_template(tiny_tokenizer, template)
    seen: list[tuple[int, int]] = []
    found = reference_statistics(model, tokenizer, [0, 1], cache=tmp_path, on_progress=lambda *at: seen.append(at))
    kinds = openings(model, tokenizer)
    assert len(kinds) == 1 + bool(template)
    texts = [sampled_tokens(model, rows, new_tokens=module.NEW_TOKENS, seed=module.SEED) for rows in kinds]
    second, mean, importance = by_hand(model, texts)
    torch.testing.assert_close(found[1].second, second, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[1].mean, mean, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[1].importance, importance, rtol=1e-3, atol=1e-6)
    assert seen == [(number, len(seen)) for number in range(1, len(kinds) * module.NEW_TOKENS + 1)]


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


def test_a_damaged_file_in_the_cache_is_measured_again(
    tiny_model: Callable[..., LlamaForCausalLM], tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    first = reference_statistics(tiny_model(), tiny_tokenizer, [1], cache=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"of an earlier version")
    again = reference_statistics(tiny_model(), tiny_tokenizer, [1], cache=tmp_path)
    assert torch.equal(again[1].second, first[1].second)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_a_half_precision_the_statistics_are_finite_and_in_fp32(
    tiny_model: Callable[..., LlamaForCausalLM],
    tiny_tokenizer: PreTrainedTokenizerFast,
    dtype: torch.dtype,
    tmp_path: Path,
) -> None:
    found = reference_statistics(tiny_model().to(dtype), tiny_tokenizer, [1], cache=tmp_path)[1]
    for tensor in vars(found).values():
        assert tensor.dtype == torch.float32
        assert tensor.isfinite().all()


def test_text_begins_with_tokens_of_the_whole_vocabulary_and_in_the_users_turn(
    tiny_model: Callable[..., LlamaForCausalLM], tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    before = torch.random.get_rng_state()
    tokenizer = with_template(tiny_tokenizer, TURNS)
    drawn, turns = openings(tiny_model(), tokenizer)
    assert drawn.shape == (module.ROWS, 1)
    assert not {*drawn.flatten().tolist()} & {*tokenizer.all_special_ids}
    assert len({*drawn.flatten().tolist()}) > module.ROWS / 2
    assert turns.tolist() == [encode(tokenizer, "user:")] * module.ROWS
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("template", ["{{ raise_exception('no') }}", "{{ messages[0]['content'] }}", "nothing"])
def test_a_template_that_says_nothing_of_the_users_turn_is_left_out(
    tiny_model: Callable[..., LlamaForCausalLM], tiny_tokenizer: PreTrainedTokenizerFast, template: str
) -> None:
    assert len(openings(tiny_model(), with_template(tiny_tokenizer, template))) == 1
