"""Plan fine-tuning benchmarks, and run them with a bar or show what would be run."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from roselora.cli.bench_display import bench_progress, show_result
from roselora.cli.console import print_json, tell, working
from roselora.errors import ConfigError

if TYPE_CHECKING:
    from roselora.bench.running.bench_result import BenchResult
    from roselora.bench.running.eta import OnProgress
    from roselora.bench.running.tuning_plan import TuningPlan, TuningRequest


def planned(make_requests: "Callable[[], Sequence[TuningRequest]]") -> "list[TuningPlan]":
    """The plans of some requests, which are made only now, for they import torch.

    Raises:
        ConfigError: an unknown name, an unusable file or value, or what the benchmarks need is not installed.
    """
    with working("reading data and model"):
        try:
            from roselora.bench.running.tuning_plan import make_plan
        except ModuleNotFoundError as error:
            raise ConfigError(f"The benchmark needs {error.name}: pip install 'roselora[train,bench]'.") from None
        return [make_plan(request) for request in make_requests()]


def run_one(wanted: dict[str, Any], batch_size: int, dry_run: bool, json: bool) -> None:
    """One benchmark, or what it would do; ``wanted`` are the arguments of a ``TuningRequest``."""

    def make_requests() -> "list[TuningRequest]":
        from roselora.bench.running.tuning_plan import TuningRequest

        return [TuningRequest(**wanted)]

    plans = planned(make_requests)
    if dry_run:
        show(plans, json)
        return
    from roselora.bench.running.tuning_bench import run_tuning

    run(lambda on_progress: run_tuning(plans[0], on_progress, batch_size=batch_size), json)


def run(work: "Callable[[OnProgress], BenchResult | None]", json: bool) -> None:
    """Run a benchmark with a bar and show what it gives, if this is the main process."""
    with bench_progress() as on_progress:
        result = work(on_progress)
    if result is not None:
        show_result(result, json)


def show(plans: "Sequence[TuningPlan]", json: bool) -> None:
    """What would be done."""
    from roselora.bench.running.tuning_bench import described

    shown = [described(plan) for plan in plans]
    if json:
        print_json(shown[0] if len(shown) == 1 else {"dry_run": True, "parts": shown})
        return
    for one in shown:
        for name, value in one.items():
            tell(f"{name.replace('_', ' ')}: {value}")
