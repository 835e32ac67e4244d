"""``roselora bench instruct``: fine-tuning methods on AlpacaEval's instructions."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roselora.cli.device_options import DeviceOverride, DtypeOverride
from roselora.cli.stores import DryRunOption, JsonOption
from roselora.cli.tuning_options import (
    BatchSizeOption,
    ConfigOption,
    DataDirOption,
    ExamplesOption,
    ForgettingOption,
    MethodsOption,
    ModelOption,
    OutputOption,
    PresetOption,
    QuestionsOption,
    RatesOption,
    SeedsOption,
    SetOption,
    wishes,
)
from roselora.cli.tuning_runs import planned, run, show
from roselora.errors import ConfigError

if TYPE_CHECKING:
    from roselora.bench.running.tuning_plan import TuningRequest


def instruct(
    model: ModelOption = "demo",
    methods: MethodsOption = "rose,lora",
    seeds: SeedsOption = "0",
    n: QuestionsOption = None,
    examples: ExamplesOption = None,
    rates: RatesOption = "",
    forgetting: ForgettingOption = 0,
    judge_url: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible endpoint, such as http://localhost:8000/v1.")
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="The judge's name there; its key is taken from OPENAI_API_KEY.")
    ] = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    batch_size: BatchSizeOption = 8,
    data_dir: DataDirOption = None,
    device: DeviceOverride = None,
    dtype: DtypeOverride = None,
    output: OutputOption = Path("bench-instruct"),
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Train methods on UltraFeedback's answers and let each answer AlpacaEval's 805 instructions, in its own format.

    With --judge-url a judge compares every answer with text_davinci_003's. Without one, the untrained model says which
    of the two is likelier, which is no win rate. A run that was stopped goes on with the same command.

    Example: roselora bench instruct --data-dir DATA --n 20 --examples 200 --methods rose,lora
    """
    if (judge_url is None) != (judge_model is None):
        raise ConfigError("A judge needs both --judge-url and --judge-model.")
    if data_dir is None:
        raise ConfigError("Instructions and references are read from a folder: point --data-dir at the benchmark data.")
    own = {"benchmark": "instruct", "protocol": "loreft", "folder": output, "forgetting": forgetting}
    asked = wishes(
        model=model,
        methods=methods,
        seeds=seeds,
        n=n,
        examples=examples,
        rates=rates,
        preset=preset,
        config=config,
        set_=set_,
        data_dir=data_dir,
        device=device,
        dtype=dtype,
    )

    def make_requests() -> "list[TuningRequest]":
        from roselora.bench.running.tuning_plan import TuningRequest

        return [TuningRequest(**asked | own)]

    plans = planned(make_requests)
    if dry_run:
        show(plans, json)
        return
    from roselora.bench.metrics.judge import endpoint
    from roselora.bench.running.tuning_bench import run_instruct

    judge = None
    if judge_url is not None and judge_model is not None:
        judge = endpoint(judge_url, judge_model, os.environ.get("OPENAI_API_KEY"))
    run(lambda on_progress: run_instruct(plans[0], judge, on_progress, batch_size=batch_size), json)
