"""``roselora bench commonsense`` and ``arithmetic``: fine-tuning methods on the paper's benchmarks."""

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roselora.cli.console import err, out, print_json, working
from roselora.cli.stores import DryRunOption, JsonOption
from roselora.errors import ConfigError, StoppedError

if TYPE_CHECKING:
    from roselora.evaluation.finetuning.plan import Plan

PLAIN_SECONDS = 60.0
"""Where there is no terminal to draw a bar on, a line says at most so often where the run is."""

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
        model: Annotated[str, typer.Option(help="demo, a folder, a .gguf file or a hub id.")] = "demo",
        protocol: Annotated[
            str, typer.Option(help="llm-adapters or loreft: whose prompts, decoding and answer rules.")
        ] = "loreft",
        methods: Annotated[
            str, typer.Option(help="Names with commas between; '' asks the untrained model alone.")
        ] = "rose,lora",
        seeds: Annotated[str, typer.Option(help="Of training, with commas between: a run of each method.")] = "0",
        sets: Annotated[str | None, typer.Option(help="Names with commas between; all if left out.")] = None,
        n: Annotated[int | None, typer.Option(min=1, help="Questions of each set; all if left out.")] = None,
        examples: Annotated[int | None, typer.Option(min=1, help="Training records; all if left out.")] = None,
        forgetting: Annotated[
            int, typer.Option(min=0, help="Questions of each of ARC-c, MMLU and TriviaQA after each run; 0 for none.")
        ] = 0,
        config: Annotated[
            Path | None, typer.Option(help="A `roselora train` file, whose adapter and training hold.")
        ] = None,
        set_: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY=VALUE", help="Such as adapter.rank=8, of all methods."),
        ] = None,
        batch_size: Annotated[int, typer.Option(min=1, help="Questions that a device answers together.")] = 16,
        data_dir: Annotated[
            Path | None,
            typer.Option("--data-dir", envvar="ROSELORA_DATA_DIR", help="The folder with the data; else from the hub."),
        ] = None,
        output: Annotated[Path, typer.Option(help="A folder; one that holds a part is gone on with.")] = Path(
            f"bench-{benchmark}"
        ),
        dry_run: DryRunOption = False,
        json: JsonOption = False,
    ) -> None:
        with working("reading data and model"):
            planning = _planning()
            wanted = planning.Wanted(
                benchmark=benchmark,
                protocol=protocol,
                model=model,
                methods=tuple(_names(methods)),
                seeds=_numbers(seeds),
                folder=output,
                sets=None if sets is None else tuple(_names(sets)),
                n=n,
                forgetting=forgetting,
                examples=examples,
                config=config,
                overrides=tuple(set_ or ()),
                data_dir=data_dir,
                command=shlex.join(["roselora", *sys.argv[1:]]),
            )
            plan = planning.make_plan(wanted)
        if dry_run:
            _show_plan(plan, json)
            return
        _run(plan, batch_size, json)

    bench.__doc__ = HELP[benchmark]
    return bench


def _planning() -> Any:
    """The planning, imported when it is needed, for it brings torch."""
    try:
        from roselora.evaluation.finetuning import plan
    except ModuleNotFoundError as error:
        raise ConfigError(f"The benchmark needs {error.name}: pip install 'roselora[train,bench]'.") from None
    return plan


def _run(plan: "Plan", batch_size: int, json: bool) -> None:
    from roselora.evaluation.finetuning.run import run
    from roselora.reports.tuning_report import write_tuning_report
    from roselora.training import processes

    try:
        with _progress() as on_progress:
            run(plan, on_progress, batch_size=batch_size)
    except (StoppedError, KeyboardInterrupt) as stop:
        reason = str(stop) or "interrupted; the same command goes on with it."
        if (plan.folder / "head.json").exists() and processes.index() == 0:
            write_tuning_report(plan.folder)
        raise StoppedError(f"{reason} What was done is in {plan.folder}.") from None
    if processes.index() != 0:
        return
    paths = write_tuning_report(plan.folder)
    if json:
        print_json({"files": [str(path) for path in paths]})
        return
    for path in paths:
        out.print(f"wrote {path}", highlight=False, soft_wrap=True)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in _names(text))
    except ValueError:
        raise ConfigError(f"--seeds {text!r} are not whole numbers with commas between, such as 0,1,2.") from None


def _show_plan(plan: "Plan", json: bool) -> None:
    head = plan.head
    shown = {
        "dry_run": True,
        "benchmark": head.benchmark,
        "protocol": head.protocol,
        "questions": dict(head.asked),
        "training": head.training,
        "training_records": len(plan.lessons),
        "runs": [f"{method}, seed {seed}" for method, seed in plan.units],
        "output": str(plan.folder),
    }
    if json:
        print_json(shown)
        return
    for name, value in shown.items():
        out.print(f"{name.replace('_', ' ')}: {value}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """On standard error: a bar with what is done, or lines where it is no terminal."""
    if not err.is_terminal:
        last = -PLAIN_SECONDS

        def say(doing: str, done: int, of: int) -> None:
            nonlocal last
            if time.monotonic() - last >= PLAIN_SECONDS:
                last = time.monotonic()
                err.print(f"{doing}: {done}/{of}", markup=False, highlight=False, soft_wrap=True)

        yield say
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("loading", total=None)
        doing_now = ""

        def draw(doing: str, done: int, of: int) -> None:
            nonlocal doing_now
            if doing != doing_now:
                bar.reset(task)  # so that the time that is left is this part's
                doing_now = doing
            bar.update(task, description=doing, completed=done, total=of)

        yield draw
