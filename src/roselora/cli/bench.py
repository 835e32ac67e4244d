"""``roselora bench``: compare methods on the paper's benchmarks."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from roselora.cli.console import err, out, print_json, working
from roselora.cli.stores import DryRunOption, JsonOption
from roselora.errors import ConfigError, StoppedError

if TYPE_CHECKING:
    from roselora.evaluation.editing_run import Progress as At

app = typer.Typer(
    name="bench", help="Compare methods on the paper's benchmarks.", no_args_is_help=True, rich_markup_mode="rich"
)

ALL = "all"
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="ROSELORA_DATA_DIR", help="The folder with the data; else from the hub."),
]


@app.command()
def edit(
    model: Annotated[str, typer.Option(help="demo, a folder, a .gguf file or a hub id.")] = "demo",
    dataset: Annotated[str, typer.Option(help="The benchmark; --list names them.")] = "zsre",
    methods: Annotated[str, typer.Option(help="Names with commas between, or all; --list names them.")] = ALL,
    mode: Annotated[
        Literal["single", "sequential", "batch"],
        typer.Option(help="Each edit on a fresh model; one call after another, scored after all; all in one call."),
    ] = "single",
    n: Annotated[int | None, typer.Option(min=1, help="How many cases, drawn by the seed; all if left out.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of cases and of every method.")] = 0,
    output: Annotated[Path, typer.Option(help="A folder; one that holds a part of this run is gone on with.")] = Path(
        "bench-edit"
    ),
    data_dir: DataDirOption = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="METHOD.FIELD=VALUE", help="Any setting of a method.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="A YAML or JSON file of METHOD: {FIELD: VALUE}; --set goes before it.")
    ] = None,
    covariance_text: Annotated[
        Path | None, typer.Option(help="A text file for the covariances of rome, memit and alphaedit.")
    ] = None,
    fluency: Annotated[bool, typer.Option("--fluency", help="Generate 100 tokens a case and score them.")] = False,
    capability: Annotated[
        int, typer.Option(min=0, help="Questions of each of ARC-c, MMLU and TriviaQA before and after; 0 for none.")
    ] = 0,
    budget: Annotated[
        float | None, typer.Option(min=0, help="Minutes after which to stop; run again to go on.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Such as cuda; the CPU if left out.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Name the benchmarks and methods, and do nothing.")] = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Run knowledge-editing methods on the same requests, score what the model then says, and write a report.

    Every edit is a line of OUTPUT/records.jsonl, so a run that was stopped or killed goes on with the same command;
    methods can be added later, and more cases to single edits.

    Example: roselora bench edit --dataset zsre --data-dir DATA --methods rose,ft-m,rome --n 50
    """
    if list_:
        _list()
        return
    with working("reading data and model"):
        try:
            from roselora.evaluation import editing_bench
            from roselora.evaluation.method_settings import configured
        except ModuleNotFoundError as error:
            raise ConfigError(f"The benchmark needs {error.name}: pip install 'roselora[bench]' has it.") from None
        from roselora.baselines.methods import METHODS
        from roselora.models.loading import load

        names = list(METHODS) if methods == ALL else [name.strip() for name in methods.split(",")]
        bench = editing_bench.EditBench(
            dataset=dataset,
            data_dir=data_dir,
            methods=configured(names, set_ or [], file=settings, seed=seed, covariance_text=covariance_text),
            mode=mode,
            n=n,
            seed=seed,
            folder=output,
            fluency=fluency,
            capability=capability,
            seconds=None if budget is None else budget * 60,
            command=shlex.join(["roselora", *sys.argv[1:]]),
        )
        loaded = load(model, device=device)
        plan, head = editing_bench.prepare(bench, loaded)
    if dry_run:
        out.print(f"{len(plan.cases)} edits of {dataset} by each of {', '.join(plan.methods)}, {mode}", highlight=False)
        return
    with _progress() as on_progress:
        try:
            head, records = editing_bench.run(bench, loaded, plan, head, on_progress)
        except (StoppedError, KeyboardInterrupt) as stop:
            reason = str(stop) or "interrupted; the same command goes on with it."
            raise StoppedError(f"{reason} What was done is in {output}.") from None
    from roselora.reports.edit_report import MARKDOWN, write_report

    paths = write_report(head, records, output)
    if json:
        print_json({"files": [str(path) for path in paths]})
    else:
        report = (output / MARKDOWN).read_text(encoding="utf-8")
        out.print(report, markup=False, highlight=False, soft_wrap=True)


def _list() -> None:
    from roselora.baselines.methods import METHODS
    from roselora.evaluation.datasets import DATASETS

    out.print(f"benchmarks: {', '.join(DATASETS)}", highlight=False, soft_wrap=True)
    for name, method in METHODS.items():
        out.print(f"{name}: {method.paper}", highlight=False, soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Callable[["At"], None]]:
    """A bar on standard error with what is done and the time that is left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        # Edits of different methods take different times; a long window evens them out.
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, speed_estimate_period=600) as bar:
        task = bar.add_task("loading", total=None)

        def on_progress(at: "At") -> None:
            bar.update(task, description=at.doing, completed=at.done, total=at.total)

        yield on_progress
