from dataclasses import replace
from pathlib import Path

import pytest

from roselora.bench.records.run_files import HEAD
from roselora.bench.running.tuning_bench import glue_parts, share_parts
from roselora.errors import ConfigError
from tests.bench.tuning import commonsense_request

REQUEST = commonsense_request(Path("data"), Path("model"), Path("out"))


def test_each_set_of_glue_is_a_part_in_a_folder_of_its_own() -> None:
    rte, cola = glue_parts(REQUEST, ("rte", "cola"))
    assert (rte.benchmark, rte.folder, cola.benchmark) == ("glue/rte", Path("out/rte"), "glue/cola")
    assert rte == replace(REQUEST, benchmark="glue/rte", protocol="half of validation", folder=Path("out/rte"))
    every = [part.benchmark.removeprefix("glue/") for part in glue_parts(REQUEST, None)]
    assert every == ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"]


def test_each_share_of_the_training_data_is_a_part_in_a_folder_of_its_own() -> None:
    eighth, whole = share_parts(REQUEST, (12.5, 100))
    assert (eighth.share, eighth.folder, whole.share, whole.folder) == (0.125, Path("out/12.5%"), 1, Path("out/100%"))


def test_the_folder_of_another_run_is_not_that_of_parts(tmp_path: Path) -> None:
    (tmp_path / HEAD).write_text("{}")
    request = replace(REQUEST, folder=tmp_path)
    for parts in (lambda: glue_parts(request, ("rte",)), lambda: share_parts(request, (50,))):
        with pytest.raises(ConfigError, match="holds another benchmark's run"):
            parts()


def test_no_part_and_unknown_parts_are_refused() -> None:
    with pytest.raises(ConfigError, match="no set to train on"):
        glue_parts(REQUEST, ())
    with pytest.raises(ConfigError, match="no set 'snli'"):
        glue_parts(REQUEST, ("rte", "snli"))
    with pytest.raises(ConfigError, match="names no share"):
        share_parts(REQUEST, ())
    with pytest.raises(ConfigError, match="--shares has 200"):
        share_parts(REQUEST, (50, 200))
