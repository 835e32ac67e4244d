"""Texts that begin alike, such as chats in one template: what they begin with is read once for all of them."""

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from roselora.models.inference import known_arguments
from roselora.models.padding import padded_inputs
from roselora.models.tokenization import shared_beginning

SAVED = 64
"""How many tokens a prefix must save: a pass of its own reads all weights, which takes as long as some dozen tokens."""


class SharedPrefix(NamedTuple):
    """What some rows of a batch begin with: its tokens, and the numbers of these rows."""

    ids: list[int]
    rows: list[int]


def shared_prefixes(rows: Sequence[list[int]]) -> list[SharedPrefix]:
    """The prefixes that several rows of tokens have in common; no row has two, and each has a token more than its own.

    >>> shared_prefixes([[7] * 65 + [1], [3, 4], [7] * 65]) == [SharedPrefix([7] * 64, [2, 0])]
    True
    """
    order = sorted(range(len(rows)), key=lambda number: rows[number])
    return _most_saving([rows[number][:-1] for number in order], order)


def _most_saving(heads: list[list[int]], numbers: list[int]) -> list[SharedPrefix]:
    """The prefix that saves most, and then those of the rows before and behind it; the heads are in their order."""
    common = [shared_beginning(*pair) for pair in pairwise(heads)]
    saved, start, end = max(
        ((min(common[start:end]) * (end - start), start, end) for start, end in combinations(range(len(heads)), 2)),
        default=(0, 0, 0),
    )
    if saved < SAVED:
        return []
    own = SharedPrefix(heads[start][: min(common[start:end])], numbers[start : end + 1])
    before = _most_saving(heads[:start], numbers[:start])
    return [own, *before, *_most_saving(heads[end + 1 :], numbers[end + 1 :])]


def inputs_behind(rows: Sequence[list[int]], prefixes: Sequence[SharedPrefix], fill: int) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask``, (rows, length): the columns of each prefix, then padding, then the rest.

    In the columns of prefixes that are not its own a row is masked.

    >>> inputs_behind([[5, 6, 7], [5, 8], [9]], [SharedPrefix([5], [0, 1])], fill=0)["input_ids"]
    tensor([[5, 6, 7],
            [5, 0, 8],
            [0, 0, 9]])
    """
    rest = [list(row) for row in rows]
    columns: list[list[list[int]]] = []
    for prefix in prefixes:
        for number in prefix.rows:
            del rest[number][: len(prefix.ids)]
        columns.append([prefix.ids if number in prefix.rows else [] for number in range(len(rows))])
    parts = [padded_inputs(own, side="left", fill=fill) for own in (*columns, rest)]
    return {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}


@torch.no_grad()
def past_of(
    model: nn.Module, prefixes: Sequence[SharedPrefix], rows: int, columns: int, device: torch.device
) -> DynamicCache | None:
    """The keys and values of the prefixes of a batch, in the columns that `inputs_behind` gives them.

    None if there are no prefixes, if the model has an adapter of peft, which may have a prefix of its own, if it keeps
    states of another kind, or if its attention looks back less far than a row is long.

    Args:
        rows: how many rows the batch has.
        columns: the length of a row, with padding and what is still to be generated.
    """
    if not prefixes or not isinstance(model, PreTrainedModel):
        return None
    body: Any = model.base_model
    past = DynamicCache(config=model.config)
    if not all_is_seen(past, columns):
        return None
    own = []
    for prefix in prefixes:
        read = DynamicCache(config=model.config)
        ids = torch.tensor([prefix.ids], device=device)
        body(input_ids=ids, **known_arguments(body, past_key_values=read, use_cache=True))
        if not read.layers or read.get_seq_length() != len(prefix.ids):
            return None
        own.append(read.layers)
    for number, layers in enumerate(zip(*own, strict=True)):
        keys = _in_columns([layer.keys for layer in layers], prefixes, rows)
        values = _in_columns([layer.values for layer in layers], prefixes, rows)
        past.update(keys, values, number)
    return past


def _in_columns(parts: Sequence[Tensor], prefixes: Sequence[SharedPrefix], rows: int) -> Tensor:
    """Keys or values of prefixes, (1, heads, tokens, size) each, side by side for all rows; 0 in those of others."""
    found = []
    for part, prefix in zip(parts, prefixes, strict=True):
        column = part.new_zeros(rows, *part.shape[1:])
        column[prefix.rows] = part
        found.append(column)
    return torch.cat(found, dim=2)


def all_is_seen(cache: DynamicCache, columns: int) -> bool:
    """Whether every layer of a model with such a cache keeps keys and values, and attends to that many columns."""
    return all(
        layer.sliding_window >= columns if isinstance(layer, DynamicSlidingWindowLayer) else type(layer) is DynamicLayer
        for layer in cache.layers
    )
