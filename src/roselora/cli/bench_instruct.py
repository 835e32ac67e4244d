"""``roselora bench instruct``: fine-tuning methods on AlpacaEval's instructions."""

import json as json_module
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roselora.cli.console import measuring
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
from roselora.cli.tuning_runs import execute, planned, show
from roselora.errors import ConfigError

if TYPE_CHECKING:
    from roselora.bench.running.tuning_plan import TuningPlan


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
    plans = planned([asked | own])
    if dry_run:
        show(plans, json)
        return

    def report() -> list[Path]:
        from roselora.bench.report.tuning_report import write_tuning_report

        outputs = _write_outputs(plans[0], data_dir)
        return [*write_tuning_report(output), *outputs]

    def compare() -> None:
        _compare(plans[0], data_dir, judge_url, judge_model)

    execute(plans, report, batch_size, json, compare)


def _write_outputs(plan: "TuningPlan", data_dir: Path) -> list[Path]:
    """Each model's answers in AlpacaEval's format."""
    from roselora.bench.records.alpaca_eval import alpaca_eval_outputs
    from roselora.bench.records.run_files import read_records
    from roselora.bench.records.tuning_bench_records import Answered
    from roselora.bench.tasks.instruct import read_references
    from roselora.files import write_atomically

    references, answers = read_references(data_dir), read_records(plan.folder, Answered)
    folder, paths = plan.folder / "outputs", []
    folder.mkdir(exist_ok=True)
    for method, seed in dict.fromkeys((answer.method, answer.seed) for answer in answers):
        own = [answer for answer in answers if (answer.method, answer.seed) == (method, seed)]
        generator = f"{plan.head.model}, {method}, seed {seed}"
        content = json_module.dumps(alpaca_eval_outputs(own, references, generator), ensure_ascii=False, indent=2)
        paths.append(folder / f"{method}-{seed}.json")
        write_atomically(paths[-1], content.encode() + b"\n")
    return paths


def _compare(plan: "TuningPlan", data_dir: Path, judge_url: str | None, judge_model: str | None) -> None:
    """Let the judge, or without one the untrained model, compare what has not been compared yet."""
    from roselora.bench.metrics.judge import endpoint, judge_answers
    from roselora.bench.metrics.likelihood import measure_likelihoods
    from roselora.bench.records.run_files import read_records
    from roselora.bench.records.tuning_bench_records import Answered
    from roselora.bench.tasks.instruct import read_references
    from roselora.models.loading import load
    from roselora.training import processes

    answers = read_records(plan.folder, Answered)
    if judge_url is not None and judge_model is not None:
        judge = endpoint(judge_url, judge_model, os.environ.get("OPENAI_API_KEY"))
        with measuring(f"answers that {judge_model} has compared") as on_progress:
            judge_answers(plan.folder, answers, read_references(data_dir), judge, on_progress)
        return
    (questions,) = plan.questions.values()
    loaded = load(plan.model, device=processes.join(plan.device), dtype=plan.dtype, quantized=True)
    with measuring("answers weighed") as on_progress:
        measure_likelihoods(plan.folder, answers, questions, loaded.model, loaded.tokenizer, on_progress)
