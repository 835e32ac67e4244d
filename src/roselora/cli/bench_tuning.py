"""``roselora bench commonsense``, ``arithmetic``, ``glue``, ``datasize`` and ``forgetting``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roselora.cli.option_groups import takes_options
from roselora.cli.tuning_options import (
    ForgettingOption,
    ProtocolOption,
    QuestionsOption,
    SetsOption,
    TuningOptions,
    optional_names,
    positive_numbers,
)
from roselora.cli.tuning_runs import run_benchmark, run_benchmark_parts
from roselora.errors import ConfigError

if TYPE_CHECKING:
    from roselora.bench.running.tuning_plan import TuningRequest

AfterOption = Annotated[str, typer.Option(help="What to train on: commonsense, arithmetic or instruct.")]


@dataclass(frozen=True, kw_only=True)
class TestSetOptions(TuningOptions):
    """The options of the benchmarks with several test sets and published protocols."""

    protocol: ProtocolOption = "loreft"
    sets: SetsOption = None
    n: QuestionsOption = None
    forgetting: ForgettingOption = 0


@takes_options(output=Path("bench-commonsense"))
def commonsense(options: TestSetOptions) -> None:
    """Train methods on commonsense questions and score each one's answers to the eight test sets.

    The untrained model is evaluated too. Run the same command again to resume, or with more methods, seeds, sets or
    questions. `accelerate launch -m roselora.cli.main bench commonsense` shares the work between processes.

    Example: roselora bench commonsense --data-dir DATA --sets boolq,arc_easy --n 100 --examples 1000 --methods rose
    """
    _run_sets("commonsense", options)


@takes_options(output=Path("bench-arithmetic"))
def arithmetic(options: TestSetOptions) -> None:
    """Train methods on worked arithmetic problems and score each one's answers to AQuA, GSM8K, MAWPS and SVAMP.

    The untrained model is evaluated too. Run the same command again to resume, or with more methods, seeds, sets or
    questions. `accelerate launch -m roselora.cli.main bench arithmetic` shares the work between processes.

    Example: roselora bench arithmetic --data-dir DATA --sets gsm8k --n 50 --examples 500 --methods rose,lora
    """
    _run_sets("arithmetic", options)


@takes_options(model="mpnet", batch_size=32, output=Path("bench-glue"))
def glue(options: TuningOptions, sets: SetsOption = None, n: QuestionsOption = None) -> None:
    """Train an encoder with a task head on each of GLUE's eight sets, and score it on half of the validation set.

    The other half chooses each method's learning rate if --rates names several. Run the same command again to resume,
    or with more methods, seeds, sets or questions.

    Example: roselora bench glue --data-dir DATA --sets rte,mrpc --methods rose,lora --seeds 0,1,2
    """

    def parts() -> "list[TuningRequest]":
        from roselora.bench.running.tuning_bench import glue_parts

        return glue_parts(options.request("glue", "", n=n), optional_names(sets))

    run_benchmark_parts(options, "GLUE", parts)


@takes_options(output=Path("bench-datasize"))
def datasize(
    options: TuningOptions,
    after: AfterOption = "arithmetic",
    shares: Annotated[str, typer.Option(help="Shares of the training examples, in per cent, separated by commas.")] = (
        "12.5,25,50,100"
    ),
    protocol: ProtocolOption = "loreft",
    sets: SetsOption = None,
    n: QuestionsOption = None,
) -> None:
    """Train methods on growing shares of the training examples, and score each on the benchmark's test sets.

    A smaller share is part of every larger one; --examples sets what 100 per cent is. Run the same command again to
    resume.

    Example: roselora bench datasize --after arithmetic --data-dir DATA --sets gsm8k --n 50 --examples 800
    """
    percentages = positive_numbers(shares, "--shares", "12.5,25,50,100")

    def parts() -> "list[TuningRequest]":
        from roselora.bench.running.tuning_bench import share_parts

        return share_parts(options.request(after, protocol, sets=optional_names(sets), n=n), percentages)

    run_benchmark_parts(options, f"data size, {after}", parts)


@takes_options(output=Path("bench-forgetting"))
def forgetting(
    options: TuningOptions,
    after: AfterOption = "commonsense",
    protocol: ProtocolOption = "loreft",
    n: ForgettingOption = 100,
) -> None:
    """Train methods and measure what each model has forgotten: TriviaQA, MMLU, ARC-c and perplexity.

    Every trained model and the untrained one get the same questions, zero-shot. Run the same command again to resume.

    Example: roselora bench forgetting --after commonsense --data-dir DATA --n 200 --methods rose,lora --seeds 0,1,2
    """
    if n < 1:
        raise ConfigError("--n is 0: ask at least one question of each set.")
    run_benchmark(options, lambda: options.request(after, protocol, sets=(), forgetting=n))


def _run_sets(benchmark: str, options: TestSetOptions) -> None:
    own = {"sets": optional_names(options.sets), "n": options.n, "forgetting": options.forgetting}
    run_benchmark(options, lambda: options.request(benchmark, options.protocol, **own))
