import pytest

from roselora.bench.metrics.forgetting import ability_differences
from roselora.bench.records.tuning_bench_records import Abilities


def measured(method: str, seed: int, **outcomes: tuple[float, ...]) -> Abilities:
    return Abilities(method, seed, 2, outcomes)


def test_a_change_is_over_questions_each_the_mean_of_its_seeds() -> None:
    abilities = [
        measured("base", 0, mmlu=(1.0, 1.0, 0.0, 1.0), perplexity=(2.0, 3.0)),
        measured("rose", 0, mmlu=(1.0, 0.0, 0.0, 1.0), perplexity=(2.0, 3.5)),
        measured("rose", 1, mmlu=(1.0, 1.0, 0.0, 0.0), perplexity=(2.0, 3.5)),
    ]
    mmlu, loss = ability_differences(abilities, "rose", "base")
    assert mmlu.value == pytest.approx((0 - 0.5 + 0 - 0.5) / 4)
    assert mmlu.low <= mmlu.value <= mmlu.high
    assert mmlu.n == 4
    assert (loss.figure, loss.value, loss.low, loss.high) == ("perplexity", 0.25, 0.0, 0.5)


def test_what_one_was_not_asked_is_not_compared() -> None:
    abilities = [measured("base", 0, mmlu=(1.0,)), measured("rose", 0, mmlu=(1.0, 0.0), arc=(1.0,))]
    assert ability_differences(abilities, "rose", "base") == []
    assert ability_differences(abilities, "lora", "base") == []
