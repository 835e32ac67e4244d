"""``roselora bench commonsense`` and ``arithmetic``: fine-tuning methods on the paper's benchmarks."""

from collections.abc import Callable
from pathlib import Path

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
    wishes,
)
from roselora.cli.tuning_runs import run_one

HELP = {
    "commonsense": """Train methods on commonsense questions and score what each then says to the eight test sets.

    The untrained model is asked too. A run that was stopped goes on with the same command; methods, seeds, sets and
    questions can be added. `accelerate launch -m roselora.cli.main bench commonsense` shares the work out.

    Example: roselora bench commonsense --data-dir DATA --sets boolq,arc_easy --n 100 --examples 1000 --methods rose
    """,
    "arithmetic": """Train methods on worked sums and score what each then says to AQuA, GSM8K, MAWPS and SVAMP.

    The untrained model is asked too. A run that was stopped goes on with the same command; methods, seeds, sets and
    questions can be added. `accelerate launch -m roselora.cli.main bench arithmetic` shares the work out.

    Example: roselora bench arithmetic --data-dir DATA --sets gsm8k --n 50 --examples 500 --methods rose,lora
    """,
}
"""Of each command, by its name, which is the benchmark's."""


def command(benchmark: str) -> Callable[..., None]:
    """The function of ``roselora bench BENCHMARK``."""

    def bench(
        model: ModelOption = "demo",
        protocol: ProtocolOption = "loreft",
        methods: MethodsOption = "rose,lora",
        seeds: SeedsOption = "0",
        sets: SetsOption = None,
        n: QuestionsOption = None,
        examples: ExamplesOption = None,
        rates: RatesOption = "",
        forgetting: ForgettingOption = 0,
        preset: PresetOption = None,
        config: ConfigOption = None,
        set_: SetOption = None,
        batch_size: BatchSizeOption = 16,
        data_dir: DataDirOption = None,
        device: DeviceOverride = None,
        dtype: DtypeOverride = None,
        output: OutputOption = Path(f"bench-{benchmark}"),
        dry_run: DryRunOption = False,
        json: JsonOption = False,
    ) -> None:
        own = {"benchmark": benchmark, "protocol": protocol, "folder": output, "forgetting": forgetting}
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
            sets=sets,
        )
        run_one(asked | own, batch_size, dry_run, json)

    bench.__doc__ = HELP[benchmark]
    return bench
