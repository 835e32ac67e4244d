"""Greedy answers, greedy tokens and next-token distributions of many prompts at once.

Prompts are raw text to be continued, tokenized as the tokenizer does by itself. Batches are padded on the left,
masked, and given the positions that each prompt has alone, so that batching changes no answer.
"""

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from roselora.errors import ConfigError

BATCH_SIZE = 16


def greedy_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int = BATCH_SIZE,
) -> list[str]:
    """What the model says after each prompt, by itself: greedy, up to EOS or the end of the answer's line.

    Blank lines before the answer do not end it, and neither does a full stop. The text is stripped and holds no
    special tokens. The model's own generation settings (sampling, penalties) have no influence, and its
    train or eval mode is put back.

    Raises:
        ConfigError: a prompt has no tokens, or `max_new_tokens` or `batch_size` is below 1.
    """
    stop = _LineIsFull(tokenizer)
    rows = _generate(model, tokenizer, prompts, max_new_tokens, batch_size, stop)
    return [_answer(_text(tokenizer, row)) for row in rows]


def greedy_tokens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int = BATCH_SIZE,
) -> list[list[int]]:
    """The ids of the greedy continuation of each prompt, up to EOS (left out) or `max_new_tokens`.

    Raises:
        ConfigError: a prompt has no tokens, or `max_new_tokens` or `batch_size` is below 1.
    """
    return _generate(model, tokenizer, prompts, max_new_tokens, batch_size, stop=None)


@torch.no_grad()
def next_token_log_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    batch_size: int = BATCH_SIZE,
) -> Tensor:
    """Log-probabilities, in nats, of the token after each prompt: `(len(prompts), vocabulary)`, fp32, on the CPU.

    Logits are computed at the last position alone where the model can.

    Raises:
        ConfigError: a prompt has no tokens, or `batch_size` is below 1.
    """
    forward: Any = model
    accepted = inspect.signature(_unwrapped(model).forward).parameters
    rows: dict[int, Tensor] = {}
    with _evaluating(model):
        for indices, batch in _batches(model, tokenizer, prompts, batch_size):
            if "position_ids" in accepted:
                batch["position_ids"] = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
            if "logits_to_keep" in accepted:
                batch["logits_to_keep"] = 1
            if "use_cache" in accepted:
                batch["use_cache"] = False
            logits = forward(**batch).logits[:, -1].float()
            rows |= dict(zip(indices, logits.log_softmax(-1).cpu(), strict=True))
    if not rows:
        return torch.empty(0, _unwrapped(model).get_output_embeddings().weight.shape[0])
    return torch.stack([rows[index] for index in range(len(prompts))])


class _LineIsFull(StoppingCriteria):
    """Stops a row once its text has a newline after its first printed character."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.prompt_length = 0

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        rows = input_ids[:, self.prompt_length :].tolist()
        full = ["\n" in _text(self.tokenizer, row).lstrip() for row in rows]
        return torch.tensor(full, device=input_ids.device)


@torch.no_grad()
def _generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_new_tokens: int,
    batch_size: int,
    stop: _LineIsFull | None,
) -> list[list[int]]:
    """The new ids of each prompt, cut before EOS."""
    if max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens is {max_new_tokens}: it must be at least 1.")
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=_pad_id(tokenizer),
    )
    generate: Any = model.generate
    rows: dict[int, list[int]] = {}
    with _evaluating(model), _own_generation_config_aside(model):
        for indices, batch in _batches(model, tokenizer, prompts, batch_size):
            length = batch["input_ids"].shape[1]
            criteria = StoppingCriteriaList()
            if stop is not None:
                stop.prompt_length = length
                criteria.append(stop)
            output = generate(**batch, generation_config=config, stopping_criteria=criteria)
            for index, row in zip(indices, output[:, length:].tolist(), strict=True):
                rows[index] = _before_eos(row, tokenizer.eos_token_id)
    return [rows[index] for index in range(len(prompts))]


def _batches(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], batch_size: int
) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """Prompts of like length together, padded on the left: their indices, and ids with mask `(batch, length)`."""
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}: it must be at least 1.")
    ids = [tokenizer(prompt).input_ids for prompt in prompts]
    for index, row in enumerate(ids):
        if not row:
            raise ConfigError(f"prompt {index} is {prompts[index]!r}, which has no tokens: give it some text.")
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    device = next(model.parameters()).device
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        longest = len(ids[indices[-1]])
        padded = torch.full((len(indices), longest), _pad_id(tokenizer))
        mask = torch.zeros_like(padded)
        for row, index in enumerate(indices):
            padded[row, longest - len(ids[index]) :] = torch.tensor(ids[index])
            mask[row, longest - len(ids[index]) :] = 1
        yield indices, {"input_ids": padded.to(device), "attention_mask": mask.to(device)}


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """An id to pad with; which one does not matter, for it is masked."""
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(candidate for candidate in candidates if candidate is not None)


def _before_eos(row: list[int], eos: int | None) -> list[int]:
    return row[: row.index(eos)] if eos in row else row


def _text(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _answer(text: str) -> str:
    return text.lstrip().split("\n", 1)[0].strip()


def _unwrapped(model: nn.Module) -> Any:
    """The transformers model inside a PEFT model, or the model itself."""
    unwrap: Any = getattr(model, "get_base_model", None)
    return model if unwrap is None else unwrap()


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every submodule has the mode that it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextlib.contextmanager
def _own_generation_config_aside(model: PreTrainedModel) -> Iterator[None]:
    """Take the model's generation settings away for a while: `generate` fills what a config leaves open from them."""
    owners = [owner for owner in (model, _unwrapped(model)) if "generation_config" in vars(owner)]
    before = [owner.generation_config for owner in owners]
    for owner in owners:
        owner.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for owner, config in zip(owners, before, strict=True):
            owner.generation_config = config
