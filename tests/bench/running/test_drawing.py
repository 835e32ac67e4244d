from roselora.bench.running.drawing import drawn


def test_a_larger_n_holds_the_items_of_a_smaller_one_and_another_seed_or_what_was_skipped_has_others() -> None:
    assert drawn(range(30), 20, seed=1)[:5] == drawn(range(30), 5, seed=1)
    assert drawn(range(30), 5, seed=1) != drawn(range(30), 5, seed=2)
    assert drawn(range(30), 5, seed=1, skip=5) == drawn(range(30), 10, seed=1)[5:]
    assert sorted(drawn(range(30), None, seed=0)) == list(range(30))
