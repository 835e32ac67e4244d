"""Run the fine-tuning benchmarks with a progress bar, or show what would be run."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from roselora.cli.bench_display import bench_progress, show_result
from roselora.cli.console import print_json, tell, working
from roselora.cli.tuning_options import TuningOptions
from roselora.errors import ConfigError

if TYPE_CHECKING:
    from roselora.bench.running.bench_result import BenchResult
    from roselora.bench.running.eta import OnProgress
    from roselora.bench.running.tuning_plan import TuningPlan, TuningRequest


def run_benchmark(options: TuningOptions, request: "Callable[[], TuningRequest]") -> None:
    """Run one benchmark, or with ``--dry-run`` show its plan; raises as :func:`plan_and_run`."""

    def work(plans: "Sequence[TuningPlan]", on_progress: "OnProgress") -> "BenchResult | None":
        from roselora.bench.running.tuning_bench import run_tuning

        return run_tuning(plans[0], on_progress, batch_size=options.batch_size)

    plan_and_run(options, lambda: [request()], work)


def run_benchmark_parts(options: TuningOptions, title: str, requests: "Callable[[], Sequence[TuningRequest]]") -> None:
    """Run the parts of a benchmark with one report on all, or show their plans; raises as :func:`plan_and_run`."""

    def work(plans: "Sequence[TuningPlan]", on_progress: "OnProgress") -> "BenchResult | None":
        from roselora.bench.running.tuning_bench import run_parts

        return run_parts(plans, title, on_progress, batch_size=options.batch_size)

    plan_and_run(options, requests, work)


def plan_and_run(
    options: TuningOptions,
    requests: "Callable[[], Sequence[TuningRequest]]",
    work: "Callable[[Sequence[TuningPlan], OnProgress], BenchResult | None]",
) -> None:
    """Plan the requests, then show the plans or do the work with a progress bar, and show its result.

    Args:
        requests: makes them; called here because they import torch.
        work: given the plans; None in processes other than the main one.

    Raises:
        ConfigError: a name, file or value is invalid, or what the benchmarks need is not installed.
        StoppedError: the run was stopped; the same command resumes it.
        typer.Exit: a method failed; the report is written.
    """
    with working("reading data and model"):
        try:
            from roselora.bench.running.tuning_plan import make_plan
        except ModuleNotFoundError as error:
            raise ConfigError(f"The benchmark needs {error.name}: pip install 'roselora[bench]'.") from None
        plans = [make_plan(request) for request in requests()]
    if options.dry_run:
        _show(plans, options.json)
        return
    with bench_progress() as on_progress:
        result = work(plans, on_progress)
    if result is not None:
        show_result(result, options.json)


def _show(plans: "Sequence[TuningPlan]", json: bool) -> None:
    from roselora.bench.running.tuning_bench import described

    shown = [described(plan) for plan in plans]
    if json:
        print_json(shown[0] if len(shown) == 1 else {"dry_run": True, "parts": shown})
        return
    for one in shown:
        for name, value in one.items():
            tell(f"{name.replace('_', ' ')}: {value}")
