"""GLUE's two correlations: Matthews' for CoLA and Pearson's for STS-B; the other sets are scored by accuracy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from roselora.bench.tasks.task import Prediction

CORRELATIONS = {"cola": "Matthews correlation", "stsb": "Pearson correlation"}
"""The sets that are scored by a correlation."""


def as_numbers(name: str, predictions: Sequence[Prediction]) -> NDArray[np.float64]:
    """(2, n) gold and predicted values: STS-B's similarities, or CoLA's two classes as 0 and 1."""
    if name == "stsb":
        return np.array([[float(p.gold) for p in predictions], [p.score for p in predictions]])
    return np.array(
        [[p.gold == "acceptable" for p in predictions], [p.answer == "acceptable" for p in predictions]], float
    )


def correlation(numbers: NDArray[np.float64]) -> float:
    """Pearson's correlation of two rows, (2, n); 0 where a row is constant. For rows of 0 and 1 it is Matthews'.

    >>> correlation(np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]))
    1.0
    """
    gold, predicted = numbers - numbers.mean(axis=1, keepdims=True)
    scale = float(np.sqrt((gold @ gold) * (predicted @ predicted)))
    return float(gold @ predicted) / scale if scale else 0.0
