"""What a run of a fine-tuning benchmark shows: accuracy by set over seeds, and what each method costs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from roselora.evaluation.estimates import BOOTSTRAP_SEED, Estimate, Spread, estimate, spread
from roselora.evaluation.finetuning.run_files import Answered, TrainedUnit
from roselora.evaluation.intervals import bootstrap_interval


@dataclass(frozen=True)
class SetScore:
    """One method on one test set.

    Attributes:
        accuracy: over questions, each the mean of the seeds that answered it; the interval is over questions.
        by_seed: the accuracy of each seed.
        unread: the share of answers in which nothing could be read.
    """

    accuracy: Estimate
    by_seed: Mapping[int, float]
    unread: float


@dataclass(frozen=True)
class MethodScore:
    """One method on all sets.

    Attributes:
        sets: by name.
        average: the plain mean of the sets' accuracies, as the papers' tables have it; None unless all sets are there.
        trained: parameters that were trained.
        entries_changed, file_bytes: of the first seed; None where the method does not tell.
        seconds, peak_bytes, steps: over seeds; None of the untrained model.
    """

    method: str
    sets: Mapping[str, SetScore]
    average: float | None
    trained: int | None
    entries_changed: int | None
    file_bytes: int | None
    seconds: Spread | None
    peak_bytes: Spread | None
    steps: Spread | None


@dataclass(frozen=True)
class Difference:
    """Ours less another method, question by question.

    Attributes:
        value, low, high: the mean over all questions of all sets, with the paired bootstrap's 95% interval.
        n: questions that both answered.
    """

    method: str
    value: float
    low: float
    high: float
    n: int


def method_scores(
    answers: Sequence[Answered], units: Sequence[TrainedUnit], methods: Sequence[str], sets: Sequence[str]
) -> list[MethodScore]:
    """One row for each method that has answered something, in the order of ``methods``."""
    rows = []
    for method in methods:
        own = [answer for answer in answers if answer.method == method]
        if not own:
            continue
        found = {name: _set_score(part) for name in sets if (part := [a for a in own if a.prediction.task == name])}
        runs = [unit for unit in units if unit.method == method]
        complete = len(found) == len(sets)
        rows.append(
            MethodScore(
                method,
                found,
                sum(score.accuracy.value for score in found.values()) / len(sets) if complete else None,
                runs[0].trained if runs else None,
                runs[0].entries_changed if runs else None,
                runs[0].file_bytes if runs else None,
                spread([run.seconds for run in runs]),
                spread([float(run.peak_bytes) for run in runs]),
                spread([float(run.steps) for run in runs]),
            )
        )
    return rows


def differences(answers: Sequence[Answered], ours: str) -> list[Difference]:
    """Ours less each other method, over the questions that both have answered."""
    means: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for method in dict.fromkeys(answer.method for answer in answers):
        means[method] = _by_question([answer for answer in answers if answer.method == method])
    found = []
    for method, other in means.items():
        shared = [key for key in means.get(ours, {}) if key in other]
        if method != ours and shared:
            values = [means[ours][key] - other[key] for key in shared]
            low, high = bootstrap_interval(values, seed=BOOTSTRAP_SEED)
            found.append(Difference(method, sum(values) / len(values), low, high, len(values)))
    return found


def _set_score(answers: Sequence[Answered]) -> SetScore:
    accuracy = estimate(_by_question(answers).values(), share=True)
    assert accuracy is not None  # there is at least one answer
    seeds: dict[int, list[float]] = defaultdict(list)
    for answer in answers:
        seeds[answer.seed].append(answer.prediction.score)
    by_seed = {seed: sum(scores) / len(scores) for seed, scores in sorted(seeds.items())}
    return SetScore(accuracy, by_seed, sum(not answer.prediction.answer for answer in answers) / len(answers))


def _by_question(answers: Sequence[Answered]) -> dict[tuple[str, str], float]:
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    for answer in answers:
        scores[answer.prediction.task, answer.prediction.key].append(answer.prediction.score)
    return {key: sum(values) / len(values) for key, values in scores.items()}
