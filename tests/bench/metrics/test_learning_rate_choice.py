from roselora.bench.metrics.learning_rate_choice import chosen_rate, chosen_units
from roselora.bench.records.tuning_bench_records import TrainedUnit


def test_the_highest_accuracy_wins_and_without_one_the_least_loss() -> None:
    def tried(rate: float, **held_out: float) -> TrainedUnit:
        return TrainedUnit("rose", 0, rate, 10, 5, 2.0, 100, 7, 3, 50, 20, held_out)

    by_accuracy = [tried(0.1, eval_loss=0.2, eval_accuracy=0.7), tried(0.2, eval_loss=0.9, eval_accuracy=0.8)]
    assert chosen_rate(by_accuracy, "rose", 0, (0.1, 0.2)) == 0.2
    assert chosen_rate(by_accuracy, "rose", 0, (0.1, 0.2, 0.3)) is None
    assert chosen_units(by_accuracy, 0, (0.1, 0.2), [0]) == by_accuracy[1:]
    by_loss = [tried(0.1, eval_loss=0.2), tried(0.2, eval_loss=0.9)]
    assert chosen_rate(by_loss, "rose", 0, (0.1, 0.2)) == 0.1


def test_a_run_that_only_chose_the_rate_is_not_one_of_the_seeds() -> None:
    def trained(seed: int, rate: float) -> TrainedUnit:
        return TrainedUnit("rose", seed, rate, 10, 5, 2.0, 100, 7, 3, 50, 20, {"eval_loss": rate})

    units = [trained(0, 0.1), trained(0, 0.2), trained(7, 0.1)]
    assert chosen_units(units, 0, (0.1, 0.2), [7]) == units[2:]
    assert chosen_units(units[::2], 0, (0.1,), [7]) == units[2:]
