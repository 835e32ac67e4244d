"""``roselora bench instruct``: fine-tuning methods on AlpacaEval's instructions."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roselora.cli.option_groups import takes_options
from roselora.cli.tuning_options import ForgettingOption, QuestionsOption, TuningOptions
from roselora.cli.tuning_runs import plan_and_run
from roselora.errors import ConfigError

if TYPE_CHECKING:
    from roselora.bench.running.bench_result import BenchResult
    from roselora.bench.running.eta import OnProgress
    from roselora.bench.running.tuning_plan import TuningPlan


@takes_options(batch_size=8, output=Path("bench-instruct"))
def instruct(
    options: TuningOptions,
    n: QuestionsOption = None,
    forgetting: ForgettingOption = 0,
    judge_url: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible endpoint, such as http://localhost:8000/v1.")
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="The judge's name there; its key is read from OPENAI_API_KEY.")
    ] = None,
) -> None:
    """Train methods on UltraFeedback's answers and let each answer AlpacaEval's 805 instructions, in its own format.

    With --judge-url a judge compares every answer with text_davinci_003's. Without it, the untrained model says which
    of the two is more likely, which is not a win rate. Run the same command again to resume.

    Example: roselora bench instruct --data-dir DATA --n 20 --examples 200 --methods rose,lora
    """
    if (judge_url is None) != (judge_model is None):
        raise ConfigError("A judge needs both --judge-url and --judge-model.")
    if options.data_dir is None:
        raise ConfigError("Instructions and references are read from a folder: point --data-dir at the benchmark data.")

    def work(plans: "Sequence[TuningPlan]", on_progress: "OnProgress") -> "BenchResult | None":
        from roselora.bench.metrics.judge import endpoint
        from roselora.bench.running.tuning_bench import run_instruct

        judge = None
        if judge_url is not None and judge_model is not None:
            judge = endpoint(judge_url, judge_model, os.environ.get("OPENAI_API_KEY"))
        return run_instruct(plans[0], judge, on_progress, batch_size=options.batch_size)

    plan_and_run(options, lambda: [options.request("instruct", "loreft", n=n, forgetting=forgetting)], work)
