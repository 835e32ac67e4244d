import math
import random

import pytest
from sklearn.metrics import accuracy_score, matthews_corrcoef

from roselora.errors import ConfigError
from roselora.evaluation.finetuning.glue_metrics import glue_score, matthews, pearson
from roselora.evaluation.finetuning.shape import Prediction


def classes(gold: list[str], said: list[str]) -> list[Prediction]:
    pairs = zip(gold, said, strict=True)
    return [Prediction("cola", str(i), answer, answer, float(g == answer), g) for i, (g, answer) in enumerate(pairs)]


def values(gold: list[float], said: list[float]) -> list[Prediction]:
    return [Prediction("stsb", str(i), "", "", v, str(g)) for i, (g, v) in enumerate(zip(gold, said, strict=True))]


@pytest.fixture
def drawn() -> tuple[list[str], list[str]]:
    dice = random.Random(1)
    gold = [dice.choice(["yes", "no"]) for _ in range(60)]
    return gold, [label if dice.random() < 0.8 else dice.choice(["yes", "no"]) for label in gold]


def test_scores_are_scikit_learns(drawn: tuple[list[str], list[str]]) -> None:
    gold, said = drawn
    cola, rte = glue_score("cola", classes(gold, said)), glue_score("rte", classes(gold, said))
    assert cola.value == pytest.approx(matthews_corrcoef(gold, said))
    assert rte.value == pytest.approx(accuracy_score(gold, said))
    assert cola.low < cola.value < cola.high
    assert (cola.n, rte.n) == (60, 60)


def test_matthews_is_that_of_the_four_counts() -> None:
    pairs = [("a", "a")] * 6 + [("a", "b")] * 2 + [("b", "a")] * 1 + [("b", "b")] * 3
    assert matthews(pairs) == pytest.approx((6 * 3 - 2 * 1) / math.sqrt(8 * 7 * 4 * 5))


def test_pearson_is_that_of_the_formula() -> None:
    gold, said = [0.0, 1.0, 2.0, 5.0], [0.5, 0.5, 3.0, 4.0]
    a, b = [g - 2.0 for g in gold], [s - 2.0 for s in said]
    expected = sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    assert glue_score("stsb", values(gold, said)).value == pytest.approx(expected)
    assert pearson([(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)]) == pytest.approx(1)


def test_one_answer_to_everything_tells_nothing() -> None:
    assert glue_score("cola", classes(["a", "b", "a"], ["a", "a", "a"])).value == 0
    assert glue_score("stsb", values([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])).value == 0


@pytest.mark.parametrize("name", ["cola", "stsb", "rte"])
def test_no_predictions_are_no_score(name: str) -> None:
    with pytest.raises(ConfigError, match="no answers"):
        glue_score(name, [])
