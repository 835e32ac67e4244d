"""Prompts as padded batches for generation, within the model's context."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.errors import ConfigError
from roselora.models.shared_prefix import SharedPrefix, inputs_behind, shared_prefixes
from roselora.models.tokenization import context_of, embedding_rows, encode, require_known
from roselora.user_files import shown


class PromptBatch(NamedTuple):
    """Prompts that are answered together.

    Attributes:
        indices: of the prompts in the list that was asked for.
        limits: how many new tokens each prompt gets: what was asked for, or what the model's context has room for.
        inputs: ``input_ids`` and ``attention_mask``, (batch, length), on the model's device; the padding stands between
            shared prefixes and the rest.
        prefixes: what several of the prompts begin with, in the order of its columns.
    """

    indices: list[int]
    limits: list[int]
    inputs: dict[str, Tensor]
    prefixes: list[SharedPrefix]


def prompt_batches(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    limits: Sequence[int],
    batch_size: int,
) -> Iterator[PromptBatch]:
    """Batches of prompts with similar limits and lengths, so that short answers do not wait for long ones.

    Raises:
        ConfigError: a prompt has no tokens or too many, or a limit or ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}: it must be at least 1.")
    if wrong := [limit for limit in limits if not isinstance(limit, int) or limit < 1]:
        raise ConfigError(f"max_new_tokens is {shown(wrong[0])}: it must be a whole number and at least 1.")
    if isinstance(prompts, str):
        raise ConfigError(f"Prompts must be a list of texts, not one text, {shown(prompts)}.")
    context = context_of(model) or math.inf
    ids = [_encoded(model, tokenizer, index, prompt, context) for index, prompt in enumerate(prompts)]
    # The model never reads the last token that it generates.
    room = [int(min(limit, context + 1 - len(row))) for limit, row in zip(limits, ids, strict=True)]
    device, pad = next(model.parameters()).device, pad_id(model, tokenizer)
    for indices in _groups([len(row) for row in ids], room, batch_size, context):
        rows = [ids[index] for index in indices]
        prefixes = shared_prefixes(rows)
        inputs = {name: each.to(device) for name, each in inputs_behind(rows, prefixes, pad).items()}
        yield PromptBatch(indices, [room[index] for index in indices], inputs, prefixes)


def _encoded(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, index: int, prompt: str, context: float
) -> list[int]:
    ids = encode(tokenizer, prompt)
    if not ids:
        raise ConfigError(f"prompt {index} is {prompt!r}, which has no tokens: give it some text.")
    if len(ids) > context:
        raise ConfigError(
            f"prompt {index}, {shown(prompt)}, takes {len(ids)} tokens; the model reads {context}; shorten it."
        )
    require_known(model, tokenizer, ids, prompt)
    return ids


def _groups(lengths: Sequence[int], room: Sequence[int], batch_size: int, context: float) -> list[list[int]]:
    """The indices of the prompts of each batch, ordered by room and length."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (room[index], lengths[index])):
        group = [*groups[-1], index] if groups else []
        # A row that is done still reads tokens until all rows of its batch are done.
        reads = max((lengths[other] for other in group), default=0) + room[index] - 1
        # Rows of one new token, which come first, need no pass after the first.
        if not group or len(group) > batch_size or reads > context or room[group[0]] == 1 < room[index]:
            groups.append([index])
        else:
            groups[-1].append(index)
    return groups


def pad_id(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """An id for padding that the model's embedding has; padding is masked, so any will do."""
    rows = embedding_rows(model)
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(candidate for candidate in candidates if candidate is not None and candidate < rows)
