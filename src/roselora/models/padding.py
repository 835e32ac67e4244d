"""Rows of tokens of unequal length as one batch."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

Side = Literal["left", "right"]


def pad_rows(rows: Sequence[Sequence[Any]], *, side: Side = "right", fill: int = 0) -> Tensor:
    """The rows as (n, longest) int64, those that are shorter filled up on one side.

    >>> pad_rows([[5, 6, 7], [8]])
    tensor([[5, 6, 7],
            [8, 0, 0]])
    """
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=fill, padding_side=side)


def padded_inputs(rows: Sequence[Sequence[int]], *, side: Side = "right", fill: int = 0) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask`` of a forward pass over these rows, (n, longest) int64 each.

    >>> padded_inputs([[5, 6, 7], [8]], side="left")["attention_mask"]
    tensor([[1, 1, 1],
            [0, 0, 1]])
    """
    mask = pad_rows([[1] * len(row) for row in rows], side=side)
    return {"input_ids": pad_rows(rows, side=side, fill=fill), "attention_mask": mask}


def positions(attention_mask: Tensor) -> Tensor:
    """The position that each token has in its own row, (n, length); padding before a row has position 0.

    >>> positions(torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]))
    tensor([[0, 0, 0, 1],
            [0, 1, 2, 3]])
    """
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)
