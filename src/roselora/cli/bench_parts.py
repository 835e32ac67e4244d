"""``roselora bench glue``, ``datasize`` and ``forgetting``: runs in several parts, or without test sets."""

from collections.abc import Callable, Sequence
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
    ProtocolOption,
    QuestionsOption,
    RatesOption,
    SeedsOption,
    SetOption,
    SetsOption,
    names,
    positive_numbers,
    wishes,
)
from roselora.cli.tuning_runs import planned, run, run_one, show
from roselora.errors import ConfigError

if TYPE_CHECKING:
    from roselora.bench.running.tuning_plan import TuningRequest

AfterOption = Annotated[str, typer.Option(help="The mix that is trained on: commonsense, arithmetic or instruct.")]


def glue(
    model: ModelOption = "mpnet",
    methods: MethodsOption = "rose,lora",
    seeds: SeedsOption = "0",
    sets: SetsOption = None,
    n: QuestionsOption = None,
    examples: ExamplesOption = None,
    rates: RatesOption = "",
    preset: PresetOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    batch_size: BatchSizeOption = 32,
    data_dir: DataDirOption = None,
    device: DeviceOverride = None,
    dtype: DtypeOverride = None,
    output: OutputOption = Path("bench-glue"),
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Train an encoder with a task head on each of GLUE's eight sets alone, and score it on half of validation.

    The other half chooses each method's learning rate, if --rates names several. A run that was stopped goes on with
    the same command; methods, seeds, sets and rows can be added.

    Example: roselora bench glue --data-dir DATA --sets rte,mrpc --methods rose,lora --seeds 0,1,2
    """
    shared = wishes(
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
    own = {"benchmark": "glue", "protocol": "half of validation", "folder": output}

    def parts() -> "list[TuningRequest]":
        from roselora.bench.running.tuning_bench import glue_parts
        from roselora.bench.running.tuning_plan import TuningRequest

        return glue_parts(TuningRequest(**shared | own), None if sets is None else names(sets))

    _run_parts("GLUE", parts, batch_size, dry_run, json)


def datasize(
    after: AfterOption = "arithmetic",
    shares: Annotated[str, typer.Option(help="Of the training records, in per cent, with commas between.")] = (
        "12.5,25,50,100"
    ),
    model: ModelOption = "demo",
    protocol: ProtocolOption = "loreft",
    methods: MethodsOption = "rose,lora",
    seeds: SeedsOption = "0",
    sets: SetsOption = None,
    n: QuestionsOption = None,
    examples: ExamplesOption = None,
    rates: RatesOption = "",
    preset: PresetOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    batch_size: BatchSizeOption = 16,
    data_dir: DataDirOption = None,
    device: DeviceOverride = None,
    dtype: DtypeOverride = None,
    output: OutputOption = Path("bench-datasize"),
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Train methods on growing shares of the training records, and score each on the benchmark's test sets.

    A smaller share is a part of every larger one. --examples says what 100 per cent are. A run that was stopped goes
    on with the same command.

    Example: roselora bench datasize --after arithmetic --data-dir DATA --sets gsm8k --n 50 --examples 800
    """
    percentages = positive_numbers(shares, "--shares", "12.5,25,50,100")
    shared = wishes(
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
        sets=sets,
    )
    own = {"benchmark": after, "protocol": protocol, "folder": output}

    def parts() -> "list[TuningRequest]":
        from roselora.bench.running.tuning_bench import share_parts
        from roselora.bench.running.tuning_plan import TuningRequest

        return share_parts(TuningRequest(**shared | own), percentages)

    _run_parts(f"data size, {after}", parts, batch_size, dry_run, json)


def forgetting(
    after: AfterOption = "commonsense",
    model: ModelOption = "demo",
    protocol: ProtocolOption = "loreft",
    methods: MethodsOption = "rose,lora",
    seeds: SeedsOption = "0",
    n: ForgettingOption = 100,
    examples: ExamplesOption = None,
    rates: RatesOption = "",
    preset: PresetOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    batch_size: BatchSizeOption = 16,
    data_dir: DataDirOption = None,
    device: DeviceOverride = None,
    dtype: DtypeOverride = None,
    output: OutputOption = Path("bench-forgetting"),
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Train methods on a mix and measure what each model can no longer do: TriviaQA, MMLU, ARC-c and perplexity.

    Every model and the untrained one are asked the same questions, zero-shot. A run that was stopped goes on with the
    same command.

    Example: roselora bench forgetting --after commonsense --data-dir DATA --n 200 --methods rose,lora --seeds 0,1,2
    """
    if n < 1:
        raise ConfigError("--n is 0: ask at least one question of each set.")
    own = {"benchmark": after, "protocol": protocol, "folder": output, "sets": (), "forgetting": n}
    asked = wishes(
        model=model,
        methods=methods,
        seeds=seeds,
        n=None,
        examples=examples,
        rates=rates,
        preset=preset,
        config=config,
        set_=set_,
        data_dir=data_dir,
        device=device,
        dtype=dtype,
    )
    run_one(asked | own, batch_size, dry_run, json)


def _run_parts(
    title: str, make_requests: "Callable[[], Sequence[TuningRequest]]", batch_size: int, dry_run: bool, json: bool
) -> None:
    """One run for each part, in a folder of its own, and a report on all parts that the output holds."""
    plans = planned(make_requests)
    if dry_run:
        show(plans, json)
        return
    from roselora.bench.running.tuning_bench import run_parts

    run(lambda on_progress: run_parts(plans, title, on_progress, batch_size=batch_size), json)
