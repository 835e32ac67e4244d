"""GLUE's test labels are not public: one part of validation selects the model, the other scores it."""

import random
from collections.abc import Sequence
from typing import TypeVar

LARGE, SELECTING = 5000, 1000
"""Where validation has more rows than the first, so many of them select."""

Row = TypeVar("Row")


def split_validation(rows: Sequence[Row], seed: int) -> tuple[list[Row], list[Row]]:
    """The rows that select a model and those that score it, both in the file's order (LoReFT's rule, by our own draw).

    Half of them select, of an odd number the smaller half; 1000 where there are over 5000.
    """
    count = SELECTING if len(rows) > LARGE else len(rows) // 2
    chosen = set(random.Random(seed).sample(range(len(rows)), count))
    selecting = [row for index, row in enumerate(rows) if index in chosen]
    return selecting, [row for index, row in enumerate(rows) if index not in chosen]
