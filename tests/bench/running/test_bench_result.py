from pathlib import Path

import pytest

from roselora.bench.running.bench_result import reporting_when_stopped
from roselora.errors import ConfigError, StoppedError


@pytest.mark.parametrize(
    ("stop", "says"),
    [
        (StoppedError("The time is over."), "The time is over. The results so far are in out."),
        (KeyboardInterrupt(), "interrupted; the same command resumes it. The results so far are in out."),
    ],
)
def test_a_stopped_run_is_reported_and_says_where_its_results_are(stop: BaseException, says: str) -> None:
    reports: list[str] = []
    with pytest.raises(StoppedError) as stopped, reporting_when_stopped(Path("out"), lambda: reports.append("report")):
        raise stop
    assert str(stopped.value) == says
    assert reports == ["report"]


def test_another_error_is_raised_without_a_report() -> None:
    with (
        pytest.raises(ConfigError, match=r"^no data$"),
        reporting_when_stopped(Path("out"), lambda: pytest.fail("reported")),
    ):
        raise ConfigError("no data")
