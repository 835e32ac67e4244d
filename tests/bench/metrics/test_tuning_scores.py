from roselora.bench.metrics.tuning_scores import differences, method_scores
from roselora.bench.records.tuning_bench_records import Answered, TrainedUnit
from roselora.bench.tasks.task import Prediction


def answered(method: str, seed: int, task: str, key: str, score: float, answer: str = "x") -> Answered:
    return Answered(method, seed, Prediction(task, key, "said", answer, score, "gold"))


def test_scores_are_means_over_questions_of_the_means_over_seeds() -> None:
    answers = [
        answered("base", 0, "a", "1", 0.0, ""),
        answered("base", 0, "a", "2", 1.0),
        answered("base", 0, "b", "1", 1.0),
        answered("rose", 0, "a", "1", 1.0),
        answered("rose", 1, "a", "1", 0.0),
        answered("rose", 0, "a", "2", 1.0),
        answered("rose", 1, "a", "2", 1.0),
    ]
    units = [TrainedUnit("rose", seed, 1e-3, 10, 5, 2.0 + seed, 100, 7, 3, 50, 20, {}) for seed in (0, 1)]
    base, rose = method_scores(answers, units, ["base", "rose", "lora"], ["a", "b"])
    assert (base.sets["a"].score.value, base.sets["a"].unread, base.average) == (0.5, 0.5, 0.75)
    assert rose.sets["a"].score.value == 0.75
    assert rose.sets["a"].by_seed == {0: 1.0, 1: 0.5}
    assert rose.average is None, "one of its sets was not asked"
    assert rose.seconds is not None
    assert (rose.seconds.median, rose.entries_changed) == (2.5, 3)
    (difference,) = differences(answers, "rose")
    assert (difference.method, difference.value, difference.n) == ("base", (0.5 + 0.0) / 2, 2)
