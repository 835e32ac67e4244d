"""What training took away: every question that a trained model was asked elsewhere, against the untrained model's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from roselora.bench.metrics.estimates import BOOTSTRAP_SEED
from roselora.bench.metrics.intervals import bootstrap_interval
from roselora.bench.records.tuning_bench_records import Abilities


@dataclass(frozen=True)
class AbilityDifference:
    """A method less another on one figure, question by question, each the mean of the method's seeds.

    Attributes:
        method, other: which; ``figure``: such as ``mmlu``, or ``perplexity``, of which the loss in nats is compared.
        value, low, high: the mean with the paired bootstrap's 95% interval over questions.
        n: questions or texts.
    """

    method: str
    other: str
    figure: str
    value: float
    low: float
    high: float
    n: int


def ability_differences(abilities: Sequence[Abilities], method: str, other: str) -> list[AbilityDifference]:
    """Each figure that both have been measured by, over the same questions."""
    own, theirs = _means(abilities, method), _means(abilities, other)
    found = []
    for figure, values in own.items():
        if len(values) == len(theirs.get(figure, ())):
            differences = [mine - others for mine, others in zip(values, theirs[figure], strict=True)]
            low, high = bootstrap_interval(differences, seed=BOOTSTRAP_SEED)
            mean = sum(differences) / len(differences)
            found.append(AbilityDifference(method, other, figure, mean, low, high, len(differences)))
    return found


def _means(abilities: Sequence[Abilities], method: str) -> Mapping[str, list[float]]:
    """By figure each question's mean over the method's seeds."""
    own = [one.outcomes for one in abilities if one.method == method]
    return {
        figure: [sum(values) / len(values) for values in zip(*(seed[figure] for seed in own), strict=True)]
        for figure in (own[0] if own else {})
    }
