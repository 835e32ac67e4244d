"""Which later edit broke an earlier one, and at what cost that is found out."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from roselora.editing.edit_check import find_breakers
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import StoredEdit
from roselora.errors import NonFiniteError


class Weights:
    """Stands for an overlay and the model under it: an edit holds as long as none of its enemies is in."""

    def __init__(self, enemies: dict[int, set[int]], count: int, fixed: Sequence[int] = ()) -> None:
        self.enemies, self.fixed = enemies, fixed
        self.inside = {str(number): number for number in range(count)}
        self.asked = self.calls = 0

    def remove(self, key: str) -> None:
        if self.inside[key] in self.fixed:
            raise NonFiniteError("The others are too much without it.")
        del self.inside[key]

    def apply(self, key: str, delta: Any, position: int, force: bool) -> None:
        assert key not in self.inside
        self.inside[key] = position

    def find_broken(self, numbers: Sequence[int]) -> list[int]:
        self.asked += len(numbers)
        self.calls += 1
        inside = set(self.inside.values())
        return [number for number in numbers if self.enemies.get(number, set()) & inside]


def active(count: int) -> Any:
    """Edits with nothing as their deltas, which `Weights` does not look at."""
    edits = [StoredEdit(n, str(n), EditRequest(str(n), "x"), "", {}, "", True) for n in range(count)]
    return [(edit, None) for edit in edits]


@pytest.mark.parametrize("count", [1, 2, 3, 10, 33])
def test_the_later_edit_that_broke_each_broken_one_is_found(count: int) -> None:
    chance = random.Random(count)
    breaker = {n: chance.randrange(n + 1, count) for n in range(count - 1) if chance.random() < 0.7}
    weights = Weights({n: {enemy} for n, enemy in breaker.items()}, count)
    before = dict(weights.inside)
    assert find_breakers(weights.find_broken, weights, active(count), sorted(breaker)) == breaker  # type: ignore[arg-type]
    assert weights.inside == before


def test_each_pass_of_the_search_says_how_far_it_is() -> None:
    weights, seen = Weights({0: {7}, 1: {7}}, 8), []
    find_breakers(weights.find_broken, weights, active(8), [0, 1], lambda done, of: seen.append((done, of)))  # type: ignore[arg-type]
    assert seen[:2] == [(1, 2), (2, 2)]
    assert seen[-1] == (2, 2)


def test_the_model_is_asked_only_as_often_as_a_bisection_needs() -> None:
    count = 200
    enemies = {n: {n + 100} for n in range(100)}
    weights = Weights(enemies, count)
    assert len(find_breakers(weights.find_broken, weights, active(count), range(100))) == 100  # type: ignore[arg-type]
    assert weights.asked <= 100 * 9, "and not once for each later edit: 15,000 times"
    assert weights.calls <= 100 + 200, "each by itself once, and after that many at once"


def test_an_edit_that_no_later_one_broke_has_no_breaker() -> None:
    weights = Weights({1: {0}, 3: {3}}, 4)
    assert find_breakers(weights.find_broken, weights, active(4), [1, 3]) == {}  # type: ignore[arg-type]


def test_an_edit_that_cannot_be_taken_out_stays_in_and_the_breakers_are_still_found() -> None:
    weights = Weights({0: {2}}, 6, fixed=[4])
    before = dict(weights.inside)
    assert find_breakers(weights.find_broken, weights, active(6), [0]) == {0: 2}  # type: ignore[arg-type]
    assert weights.inside == before
