"""GLUE's two correlations: Matthews' for CoLA, Pearson's for STS-B; the other sets are scored by accuracy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from roselora.bench.tasks.task import Prediction

CORRELATIONS = {"cola": "Matthews correlation", "stsb": "Pearson correlation"}
"""Of the sets that are not scored by accuracy."""


def as_numbers(name: str, predictions: Sequence[Prediction]) -> NDArray[np.float64]:
    """(2, n): gold and predicted, of STS-B the similarities, of CoLA's two classes 0 and 1."""
    if name == "stsb":
        return np.array([[float(p.gold) for p in predictions], [p.score for p in predictions]])
    return np.array(
        [[p.gold == "acceptable" for p in predictions], [p.answer == "acceptable" for p in predictions]], float
    )


def correlation(numbers: NDArray[np.float64]) -> float:
    """Pearson's correlation of two rows, which of two rows of 0 and 1 is Matthews'; 0 where a row is constant."""
    gold, predicted = numbers - numbers.mean(axis=1, keepdims=True)
    scale = float(np.sqrt((gold @ gold) * (predicted @ predicted)))
    return float(gold @ predicted) / scale if scale else 0.0
