"""Which learning rate each method of a fine-tuning benchmark uses."""

from collections.abc import Sequence

from roselora.bench.records.tuning_bench_records import TrainedUnit


def chosen_rate(units: Sequence[TrainedUnit], method: str, seed: int, rates: Sequence[float]) -> float | None:
    """The learning rate with the best validation accuracy, else the lowest validation loss; the first of equal ones.

    Args:
        seed: of the units that were trained to choose; a single rate needs none.

    Returns:
        the rate; None while a rate has not been tried.
    """
    if len(rates) == 1:
        return rates[0]
    tried = {unit.learning_rate: unit.held_out for unit in units if (unit.method, unit.seed) == (method, seed)}
    if not tried.keys() >= set(rates):
        return None
    return max(rates, key=lambda rate: (tried[rate].get("eval_accuracy", 0.0), -tried[rate]["eval_loss"]))


def chosen_units(
    units: Sequence[TrainedUnit], seed: int, rates: Sequence[float], seeds: Sequence[int]
) -> list[TrainedUnit]:
    """The units of these seeds that were trained with their method's rate; the rate may be chosen with another seed."""
    own = [unit for unit in units if unit.seed in seeds]
    if len(rates) < 2:
        return own
    chosen = {unit.method: chosen_rate(units, unit.method, seed, rates) for unit in units}
    return [unit for unit in own if unit.learning_rate == chosen[unit.method]]
