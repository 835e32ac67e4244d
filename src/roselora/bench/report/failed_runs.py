"""What could not be run: no result of a method, and part of no score."""

from collections.abc import Sequence

from roselora.bench.records.failed_run import FailedRun
from roselora.markdown import text


def failed_runs(failures: Sequence[FailedRun]) -> list[str]:
    """The section on them; none if there are none."""
    if not failures:
        return []
    return [
        "## Failed runs",
        "A bug, too little memory, or a method that does not fit the model or the request: no result, and part of no "
        "score. The same command tries them again.",
        "\n".join(f"- {text(one.method)}, {text(one.at)}: {text(one.error)}" for one in failures),
    ]
