"""Forgetting: how a method's answers to questions of general ability differ from another's, question by question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from roselora.bench.metrics.estimates import bootstrap_interval
from roselora.bench.records.tuning_bench_records import Abilities


@dataclass(frozen=True)
class AbilityDifference:
    """A method minus another one on one figure; each question counts the mean of its method's seeds.

    Attributes:
        method, other: the methods; ``figure``: such as ``mmlu``, or ``perplexity``, for which losses in nats are
            compared.
        value, low, high: the mean, with the paired bootstrap's 95% interval over questions.
        n: how many questions or texts.
    """

    method: str
    other: str
    figure: str
    value: float
    low: float
    high: float
    n: int


def ability_differences(abilities: Sequence[Abilities], method: str, other: str) -> list[AbilityDifference]:
    """One difference for each figure for which both were asked the same questions."""
    own, theirs = _means(abilities, method), _means(abilities, other)
    found = []
    for figure, values in own.items():
        if len(values) == len(theirs.get(figure, ())):
            differences = [mine - others for mine, others in zip(values, theirs[figure], strict=True)]
            mean, n = sum(differences) / len(differences), len(differences)
            found.append(AbilityDifference(method, other, figure, mean, *bootstrap_interval(differences), n))
    return found


def _means(abilities: Sequence[Abilities], method: str) -> Mapping[str, list[float]]:
    """For each figure, the mean over the method's seeds of each question's outcome."""
    own = [one.outcomes for one in abilities if one.method == method]
    return {
        figure: [sum(values) / len(values) for values in zip(*(seed[figure] for seed in own), strict=True)]
        for figure in (own[0] if own else {})
    }
