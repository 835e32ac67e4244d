"""GLUE's metrics: Matthews correlation for CoLA, Pearson correlation for STS-B, accuracy for the others."""

import random
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from roselora.errors import ConfigError
from roselora.evaluation.capability import Measured
from roselora.evaluation.finetuning.asking import accuracy
from roselora.evaluation.finetuning.shape import Prediction

METRICS = {"cola": "Matthews correlation", "stsb": "Pearson correlation"}
"""Of the sets that are not scored by accuracy."""

RESAMPLES = 2000

Pair = TypeVar("Pair")


def glue_score(name: str, predictions: Sequence[Prediction], *, seed: int = 0) -> Measured:
    """A set's metric with its 95% interval: Wilson's of an accuracy, else the percentile bootstrap's over rows.

    A correlation is 0 where all predictions are one (or all answers), as scikit-learn has it for Matthews'.

    Raises:
        ConfigError: there are no predictions.
    """
    if name not in METRICS:
        return accuracy(predictions)
    if not predictions:
        raise ConfigError("There are no answers to score: ask at least one question.")
    if name == "cola":
        pairs = [(prediction.gold, prediction.answer) for prediction in predictions]
        return _bootstrapped(pairs, matthews, seed)
    return _bootstrapped([(float(p.gold), p.score) for p in predictions], pearson, seed)


def matthews(pairs: Sequence[tuple[str, str]]) -> float:
    """Matthews correlation of answers (gold, said)."""
    from sklearn.metrics import matthews_corrcoef

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of resamples with one class
        return float(matthews_corrcoef(*zip(*pairs, strict=True)))


def pearson(pairs: Sequence[tuple[float, float]]) -> float:
    """Pearson correlation of values (gold, predicted)."""
    gold, predicted = np.array(pairs, dtype=np.float64).T
    if gold.std() == 0 or predicted.std() == 0:
        return 0.0
    return float(np.corrcoef(gold, predicted)[0, 1])


def _bootstrapped(pairs: Sequence[Pair], metric: Callable[[Sequence[Pair]], float], seed: int) -> Measured:
    drawn = random.Random(seed)
    values = [metric(drawn.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES)]
    low, high = np.quantile(values, [0.025, 0.975])
    return Measured(metric(pairs), float(low), float(high), len(pairs))
