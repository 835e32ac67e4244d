"""What a run of a fine-tuning benchmark shows: accuracy by set over seeds, and what each method costs."""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roselora.bench.metrics.estimates import BOOTSTRAP_SEED, CostRange, Estimate, cost_range, estimate
from roselora.bench.metrics.glue_metrics import CORRELATIONS, as_numbers, correlation
from roselora.bench.metrics.intervals import bootstrap_interval
from roselora.bench.records.tuning_bench_records import Answered, TrainedUnit
from roselora.bench.tasks.task import Prediction

RESAMPLES = 2000
"""Of a correlation's bootstrap."""


@dataclass(frozen=True)
class SetScore:
    """One method on one test set.

    Attributes:
        score: accuracy over questions, each the mean of the seeds that answered it; of CoLA and STS-B the seeds' mean
            correlation. The interval is over questions. None where only a judge can score.
        by_seed: the score of each seed.
        unread: the share of answers in which nothing could be read.
    """

    score: Estimate | None
    by_seed: Mapping[int, float]
    unread: float


@dataclass(frozen=True)
class MethodScore:
    """One method on all sets.

    Attributes:
        sets: by name.
        average: the plain mean of the sets' scores, as the papers' tables have it; None unless all sets are there.
        trained: parameters that were trained.
        entries_changed, file_bytes, delta_bytes: of the first seed; None where the method has none.
        seconds, peak_bytes, steps: over seeds; None of the untrained model.
    """

    method: str
    sets: Mapping[str, SetScore]
    average: float | None
    trained: int | None
    entries_changed: int | None
    file_bytes: int | None
    delta_bytes: int | None
    seconds: CostRange | None
    peak_bytes: CostRange | None
    steps: CostRange | None


@dataclass(frozen=True)
class Difference:
    """Ours less another method, question by question.

    Attributes:
        value, low, high: the mean over all questions of all sets, or the difference of two correlations, with the
            paired bootstrap's 95% interval.
        n: questions that both answered.
    """

    method: str
    value: float
    low: float
    high: float
    n: int


def chosen_rate(units: Sequence[TrainedUnit], method: str, seed: int, rates: Sequence[float]) -> float | None:
    """The learning rate that did best on the held-out rows: by accuracy, else by loss; of equals the first.

    Args:
        seed: of the units that were trained to choose; of one rate none is needed.

    Returns:
        the rate; None while a rate has not been tried.
    """
    if len(rates) == 1:
        return rates[0]
    tried = {unit.learning_rate: unit.held_out for unit in units if (unit.method, unit.seed) == (method, seed)}
    if not tried.keys() >= set(rates):
        return None
    return max(rates, key=lambda rate: (tried[rate].get("eval_accuracy", 0.0), -tried[rate]["eval_loss"]))


def chosen_units(units: Sequence[TrainedUnit], seed: int, rates: Sequence[float]) -> list[TrainedUnit]:
    """The units at their method's own rate: all if there was no choice."""
    if len(rates) < 2:
        return list(units)
    chosen = {unit.method: chosen_rate(units, unit.method, seed, rates) for unit in units}
    return [unit for unit in units if unit.learning_rate == chosen[unit.method]]


def method_scores(
    answers: Sequence[Answered], units: Sequence[TrainedUnit], methods: Sequence[str], sets: Sequence[str]
) -> list[MethodScore]:
    """One row for each method that has been trained or has answered something, in the order of ``methods``."""
    rows = []
    for method in methods:
        own = [answer for answer in answers if answer.method == method]
        runs = [unit for unit in units if unit.method == method]
        if not own and not runs:
            continue
        found = {name: _set_score(part) for name in sets if (part := [a for a in own if a.prediction.task == name])}
        complete = bool(sets) and len(found) == len(sets)
        rows.append(
            MethodScore(
                method,
                found,
                _average(found.values()) if complete else None,
                runs[0].trained if runs else None,
                runs[0].entries_changed if runs else None,
                runs[0].file_bytes if runs else None,
                runs[0].delta_bytes if runs else None,
                cost_range([run.seconds for run in runs]),
                cost_range([float(run.peak_bytes) for run in runs]),
                cost_range([float(run.steps) for run in runs]),
            )
        )
    return rows


def _average(found: Collection[SetScore]) -> float | None:
    values = [one.score.value for one in found if one.score is not None]
    return sum(values) / len(values) if len(values) == len(found) else None


def differences(answers: Sequence[Answered], ours: str) -> list[Difference]:
    """Ours less each other method, over the questions that both have answered."""
    own = [answer for answer in answers if answer.method == ours]
    if any(math.isnan(answer.prediction.score) for answer in own):
        return []  # only a judge can score them
    found = []
    for method in dict.fromkeys(answer.method for answer in answers):
        others = [answer for answer in answers if answer.method == method]
        shared = _by_question(own).keys() & _by_question(others).keys()
        if method != ours and shared:
            mine, theirs = (
                [answer for answer in part if (answer.prediction.task, answer.prediction.key) in shared]
                for part in (own, others)
            )
            found.append(_difference(method, mine, theirs))
    return found


def _difference(method: str, mine: Sequence[Answered], theirs: Sequence[Answered]) -> Difference:
    """Of the same questions; a set that is scored by a correlation is the only one of its run."""
    name = mine[0].prediction.task
    if name in CORRELATIONS:
        ours, other = _numbers(name, mine), _numbers(name, theirs)
        low, high = _resampled(ours[0].shape[1], lambda rows: _mean(ours, rows) - _mean(other, rows))
        every = np.arange(ours[0].shape[1])
        return Difference(method, _mean(ours, every) - _mean(other, every), low, high, len(every))
    means, other_means = _by_question(mine), _by_question(theirs)
    values = [value - other_means[key] for key, value in means.items()]
    return Difference(method, sum(values) / len(values), *bootstrap_interval(values, seed=BOOTSTRAP_SEED), len(values))


def _set_score(answers: Sequence[Answered]) -> SetScore:
    name = answers[0].prediction.task
    unread = sum(not answer.prediction.answer for answer in answers) / len(answers)
    if name in CORRELATIONS:
        numbers = _numbers(name, answers)
        rows = numbers[0].shape[1]
        low, high = _resampled(rows, lambda chosen: _mean(numbers, chosen))
        seeds_of = sorted({answer.seed for answer in answers})
        by_seed = {seed: correlation(own) for seed, own in zip(seeds_of, numbers, strict=True)}
        score = Estimate(sum(by_seed.values()) / len(by_seed), low, high, rows, "bootstrap")
        return SetScore(score, by_seed, unread)
    if any(math.isnan(answer.prediction.score) for answer in answers):
        return SetScore(None, {}, unread)
    accuracy = estimate(_by_question(answers).values(), share=True)
    seeds: dict[int, list[float]] = defaultdict(list)
    for answer in answers:
        seeds[answer.seed].append(answer.prediction.score)
    by_seed = {seed: sum(scores) / len(scores) for seed, scores in sorted(seeds.items())}
    return SetScore(accuracy, by_seed, unread)


def _numbers(name: str, answers: Sequence[Answered]) -> list[NDArray[np.float64]]:
    """For each seed (2, n) gold and predicted values, of the questions that all seeds have answered, in one order."""
    seeds: dict[int, dict[str, Prediction]] = defaultdict(dict)
    for answer in answers:
        seeds[answer.seed][answer.prediction.key] = answer.prediction
    shared = sorted(set.intersection(*(set(found) for found in seeds.values())))
    return [as_numbers(name, [seeds[seed][key] for key in shared]) for seed in sorted(seeds)]


def _mean(numbers: Sequence[NDArray[np.float64]], rows: NDArray[np.int64]) -> float:
    """The seeds' mean correlation over some rows."""
    return sum(correlation(own[:, rows]) for own in numbers) / len(numbers)


def _resampled(n: int, value: Callable[[NDArray[np.int64]], float]) -> tuple[float, float]:
    """The percentile bootstrap's 95% interval of what no mean over rows gives."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    values = [value(generator.integers(n, size=n)) for _ in range(RESAMPLES)]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _by_question(answers: Sequence[Answered]) -> dict[tuple[str, str], float]:
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    for answer in answers:
        scores[answer.prediction.task, answer.prediction.key].append(answer.prediction.score)
    return {key: sum(values) / len(values) for key, values in scores.items()}
