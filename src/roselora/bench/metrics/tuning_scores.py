"""The scores of a fine-tuning benchmark: accuracy or correlation by test set, over seeds, and each method's costs."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roselora.bench.metrics.estimates import (
    CostRange,
    Estimate,
    bootstrap_interval,
    bootstrap_interval_of,
    cost_range,
    estimate,
)
from roselora.bench.metrics.glue_metrics import CORRELATIONS, as_numbers, correlation
from roselora.bench.records.tuning_bench_records import Answered, TrainedUnit
from roselora.bench.tasks.task import Prediction

RESAMPLES = 2000
"""Of the bootstrap of a correlation."""


@dataclass(frozen=True)
class SetScore:
    """One method on one test set.

    Attributes:
        score: accuracy over questions, where a question counts the mean of the seeds that answered it; for CoLA and
            STS-B the mean correlation of the seeds. The interval is over questions. None where only a judge can score.
        by_seed: the score of each seed.
        unread: the share of generated texts from which no answer could be extracted.
    """

    score: Estimate | None
    by_seed: Mapping[int, float]
    unread: float


@dataclass(frozen=True)
class MethodScore:
    """One method on all test sets.

    Attributes:
        sets: by name.
        average: the plain mean of the sets' scores, as in the papers' tables; None unless all sets are scored.
        trained: how many parameters were trained.
        entries_changed, file_bytes, delta_bytes: of the first seed; None where the method has none.
        seconds, peak_bytes, steps: over seeds; None for the untrained model.
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
    """Our method minus another one, question by question.

    Attributes:
        method: the other one.
        value, low, high: the mean over all questions of all sets, or the difference of two correlations, with the
            paired bootstrap's 95% interval.
        n: how many questions both have answered.
    """

    method: str
    value: float
    low: float
    high: float
    n: int


def method_scores(
    answers: Sequence[Answered], units: Sequence[TrainedUnit], methods: Sequence[str], sets: Sequence[str]
) -> list[MethodScore]:
    """One row for each method that has a training run or an answer, in the order of ``methods``."""
    rows = []
    for method in methods:
        own = [answer for answer in answers if answer.method == method]
        runs = [unit for unit in units if unit.method == method]
        if not own and not runs:
            continue
        found = {name: _set_score(part) for name in sets if (part := [a for a in own if a.prediction.task == name])}
        values = [one.score.value for one in found.values() if one.score is not None]
        first = runs[0] if runs else None
        rows.append(
            MethodScore(
                method,
                found,
                average=sum(values) / len(values) if values and len(values) == len(sets) else None,
                trained=first.trained if first else None,
                entries_changed=first.entries_changed if first else None,
                file_bytes=first.file_bytes if first else None,
                delta_bytes=first.delta_bytes if first else None,
                seconds=cost_range(run.seconds for run in runs),
                peak_bytes=cost_range(float(run.peak_bytes) for run in runs),
                steps=cost_range(float(run.steps) for run in runs),
            )
        )
    return rows


def differences(answers: Sequence[Answered], ours: str) -> list[Difference]:
    """Our method minus each other one, over the questions that both have answered."""
    by_method: dict[str, list[Answered]] = defaultdict(list)
    for answer in answers:
        by_method[answer.method].append(answer)
    own = by_method.pop(ours, [])
    if any(math.isnan(answer.prediction.score) for answer in own):
        return []  # only a judge can score them
    found = [_difference(method, own, others) for method, others in by_method.items()]
    return [difference for difference in found if difference is not None]


def _difference(method: str, own: Sequence[Answered], others: Sequence[Answered]) -> Difference | None:
    """None without a question that both have answered."""
    means, other_means = _by_question(own), _by_question(others)
    shared = [key for key in means if key in other_means]
    if not shared:
        return None
    name = own[0].prediction.task
    if name in CORRELATIONS:  # such a test set is the only one of its run
        keys = {key for _, key in shared}
        mine, theirs = (_numbers(name, [a for a in part if a.prediction.key in keys]) for part in (own, others))

        def difference(questions: NDArray[np.int64]) -> float:
            return _mean_correlation(mine, questions) - _mean_correlation(theirs, questions)

        n = mine[0].shape[1]
        return Difference(
            method, difference(np.arange(n)), *bootstrap_interval_of(difference, n, resamples=RESAMPLES), n
        )
    values = [means[key] - other_means[key] for key in shared]
    return Difference(method, sum(values) / len(values), *bootstrap_interval(values), len(values))


def _set_score(answers: Sequence[Answered]) -> SetScore:
    name = answers[0].prediction.task
    unread = sum(not answer.prediction.answer for answer in answers) / len(answers)
    if name in CORRELATIONS:
        numbers = _numbers(name, answers)
        n = numbers[0].shape[1]
        interval = bootstrap_interval_of(lambda drawn: _mean_correlation(numbers, drawn), n, resamples=RESAMPLES)
        seeds_of = sorted({answer.seed for answer in answers})
        by_seed = {seed: correlation(own) for seed, own in zip(seeds_of, numbers, strict=True)}
        score = Estimate(sum(by_seed.values()) / len(by_seed), *interval, n, "bootstrap")
        return SetScore(score, by_seed, unread)
    if any(math.isnan(answer.prediction.score) for answer in answers):
        return SetScore(None, {}, unread)
    seeds: dict[int, list[float]] = defaultdict(list)
    for answer in answers:
        seeds[answer.seed].append(answer.prediction.score)
    by_seed = {seed: sum(scores) / len(scores) for seed, scores in sorted(seeds.items())}
    return SetScore(estimate(_by_question(answers).values(), share=True), by_seed, unread)


def _numbers(name: str, answers: Sequence[Answered]) -> list[NDArray[np.float64]]:
    """For each seed (2, n) gold and predicted values of the questions that all seeds have answered, in one order."""
    seeds: dict[int, dict[str, Prediction]] = defaultdict(dict)
    for answer in answers:
        seeds[answer.seed][answer.prediction.key] = answer.prediction
    shared = sorted(set.intersection(*(set(found) for found in seeds.values())))
    return [as_numbers(name, [seeds[seed][key] for key in shared]) for seed in sorted(seeds)]


def _mean_correlation(numbers: Sequence[NDArray[np.float64]], questions: NDArray[np.int64]) -> float:
    """The mean of the seeds' correlations over some questions."""
    return sum(correlation(own[:, questions]) for own in numbers) / len(numbers)


def _by_question(answers: Sequence[Answered]) -> dict[tuple[str, str], float]:
    """By test set and key, the mean score over the seeds."""
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    for answer in answers:
        scores[answer.prediction.task, answer.prediction.key].append(answer.prediction.score)
    return {key: sum(values) / len(values) for key, values in scores.items()}
