import pytest

from roselora.bench.metrics.estimates import wilson_interval
from roselora.bench.metrics.reliability_by_age import reliability_by_age
from roselora.bench.records.edit_bench_records import EditRecord
from tests.bench.metrics.test_paired_comparison import record


def test_reliability_by_age_counts_each_edit_in_the_bin_of_its_age() -> None:
    # 25 edits: two bins, of ages 0-11 and 12-24; the ten oldest are forgotten, and one of the youngest failed.
    records = [record(position, "rose", float(position >= 10)) for position in range(24)]
    records.append(EditRecord("made/24", "rose", 24, None, None, "No."))
    young, old = reliability_by_age(records, 25)["rose"]
    assert (young.youngest, young.oldest, young.reliability.n) == (0, 11, 12)
    assert young.reliability.value == pytest.approx(11 / 12)
    assert (old.youngest, old.oldest, old.reliability.n) == (12, 24, 13)
    assert (old.reliability.low, old.reliability.high) == wilson_interval(3, 13)


def test_reliability_by_age_has_at_most_ten_bins() -> None:
    records = [record(position, "rose", 1.0) for position in range(250)]
    bins = reliability_by_age(records, 250)["rose"]
    assert [(bin_.youngest, bin_.oldest) for bin_ in bins] == [(low, low + 24) for low in range(0, 250, 25)]
