import math
import random

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, matthews_corrcoef

from roselora.bench.metrics.glue_metrics import as_numbers, correlation
from roselora.bench.metrics.tuning_scores import differences, method_scores
from roselora.bench.records.tuning_bench_records import Answered
from roselora.bench.tasks.task import Prediction

YES, NO = "acceptable", "unacceptable"


def classes(gold: list[str], said: list[str], name: str = "cola") -> list[Prediction]:
    pairs = zip(gold, said, strict=True)
    return [Prediction(name, str(i), answer, answer, float(g == answer), g) for i, (g, answer) in enumerate(pairs)]


def values(gold: list[float], said: list[float]) -> list[Prediction]:
    return [Prediction("stsb", str(i), "", "", v, str(g)) for i, (g, v) in enumerate(zip(gold, said, strict=True))]


def drawn(seed: int) -> tuple[list[str], list[str]]:
    dice = random.Random(0)
    gold = [dice.choice([YES, NO]) for _ in range(60)]
    dice = random.Random(seed)
    return gold, [label if dice.random() < 0.8 else dice.choice([YES, NO]) for label in gold]


def answered(method: str, seed: int, predictions: list[Prediction]) -> list[Answered]:
    return [Answered(method, seed, prediction) for prediction in predictions]


def test_scores_are_scikit_learns_averaged_over_seeds() -> None:
    runs = {seed: drawn(seed) for seed in (1, 2)}
    for name, metric in (("cola", matthews_corrcoef), ("rte", accuracy_score)):
        answers = [a for seed, (gold, said) in runs.items() for a in answered("rose", seed, classes(gold, said, name))]
        (row,) = method_scores(answers, [], ["rose"], [name])
        expected = {seed: metric(gold, said) for seed, (gold, said) in runs.items()}
        assert row.sets[name].by_seed == pytest.approx(expected)
        score = row.sets[name].score
        assert score.value == pytest.approx(sum(expected.values()) / 2)
        assert score.low is not None
        assert score.high is not None
        assert score.low < score.value < score.high
        assert score.n == 60


def test_a_difference_of_correlations_is_that_of_the_two_scores() -> None:
    (gold, said), (_, other) = drawn(1), drawn(5)
    answers = [*answered("rose", 0, classes(gold, said)), *answered("lora", 0, classes(gold, other))]
    (found,) = differences(answers, "rose")
    assert found.method == "lora"
    assert found.value == pytest.approx(matthews_corrcoef(gold, said) - matthews_corrcoef(gold, other))
    assert found.low <= found.value <= found.high
    assert found.n == 60


def test_matthews_is_that_of_the_four_counts() -> None:
    gold = [YES] * 8 + [NO] * 4
    said = [YES] * 6 + [NO] * 2 + [YES] * 1 + [NO] * 3
    assert correlation(as_numbers("cola", classes(gold, said))) == pytest.approx(
        (6 * 3 - 2 * 1) / math.sqrt(8 * 7 * 4 * 5)
    )


def test_pearson_is_that_of_the_formula() -> None:
    gold, said = [0.0, 1.0, 2.0, 5.0], [0.5, 0.5, 3.0, 4.0]
    a, b = [g - 2.0 for g in gold], [s - 2.0 for s in said]
    expected = sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    assert correlation(as_numbers("stsb", values(gold, said))) == pytest.approx(expected)
    assert correlation(np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])) == pytest.approx(1)


def test_one_answer_to_everything_tells_nothing() -> None:
    assert correlation(as_numbers("cola", classes([YES, NO, YES], [YES, YES, YES]))) == 0
    assert correlation(as_numbers("stsb", values([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]))) == 0
