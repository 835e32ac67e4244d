from dataclasses import replace

import pytest

from roselora.bench.records.run_files import BASE, read_records
from roselora.bench.records.tuning_bench_records import Answered
from roselora.bench.running.tuning_plan import TuningRequest, make_plan
from roselora.bench.running.tuning_run import run
from roselora.errors import ConfigError, FileFormatError
from tests.bench.tuning import SETTINGS, nothing


def test_methods_seeds_sets_and_questions_can_be_added_and_nothing_else_may_change(wanted: TuningRequest) -> None:
    first = replace(wanted, methods=(), sets=("boolq",), n=1)
    run(make_plan(first), nothing)
    assert [answer.method for answer in read_records(wanted.folder, Answered)] == [BASE]
    run(make_plan(replace(wanted, seeds=(3,))), nothing)
    assert len(read_records(wanted.folder, Answered)) == 2 * 3
    for change, what in (
        ({"protocol": "llm-adapters"}, "protocol"),
        ({"question_seed": 1}, "question seed"),
        ({"examples": 2}, "another number of training examples"),
        ({"overrides": (*SETTINGS, "training.learning_rate=1.0")}, "other settings"),
    ):
        with pytest.raises(ConfigError, match=what):
            make_plan(replace(wanted, **change))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no set"):
        make_plan(replace(wanted, sets=("sums",)))
    with pytest.raises(ConfigError, match="seeds"):
        make_plan(replace(wanted, seeds=()))


def test_a_folder_with_other_files_is_refused(wanted: TuningRequest) -> None:
    wanted.folder.mkdir()
    (wanted.folder / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="not empty"):
        make_plan(wanted)
    (wanted.folder / "head.json").write_text("{}")
    with pytest.raises(FileFormatError, match="not a valid TuningHead"):
        make_plan(wanted)
