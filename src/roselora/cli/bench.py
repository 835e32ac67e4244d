"""``roselora bench``: compare methods on the paper's benchmarks."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from roselora.cli.bench_instruct import instruct
from roselora.cli.bench_parts import datasize, forgetting, glue
from roselora.cli.bench_tuning import HELP, command
from roselora.cli.console import err, out, print_json, saying, tell, working
from roselora.cli.device_options import DeviceOption, DtypeOption
from roselora.cli.path_options import PATH
from roselora.cli.stores import DryRunOption, JsonOption
from roselora.cli.tuning_options import DataDirOption
from roselora.cli.tuning_runs import show_written
from roselora.errors import ConfigError, StoppedError

if TYPE_CHECKING:
    from roselora.bench.records.edit_bench_records import EditHead, EditRecord
    from roselora.bench.running.edit_bench import EditBench
    from roselora.bench.running.edit_run import EditPlan
    from roselora.bench.running.eta import Progress as At
    from roselora.models.loading import LoadedModel

app = typer.Typer(
    name="bench", help="Compare methods on the paper's benchmarks.", no_args_is_help=True, rich_markup_mode="rich"
)
for name in HELP:
    app.command(name)(command(name))
for part_command in (instruct, glue, forgetting, datasize):
    app.command()(part_command)

ALL = "all"


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
    skip: Annotated[
        int, typer.Option(min=0, help="How many cases to pass over first, so that a draw holds none of an earlier one.")
    ] = 0,
    output: Annotated[
        Path, typer.Option(**PATH, help="A folder; one that holds a part of this run is gone on with.")
    ] = Path("bench-edit"),
    data_dir: DataDirOption = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="METHOD.FIELD=VALUE", help="Any setting of a method.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(**PATH, help="A YAML or JSON file of METHOD: {FIELD: VALUE}; --set goes before it.")
    ] = None,
    covariance_text: Annotated[
        Path | None, typer.Option(**PATH, help="A text file for the covariances of rome, memit and alphaedit.")
    ] = None,
    fluency: Annotated[bool, typer.Option("--fluency", help="Generate 100 tokens a case and score them.")] = False,
    capability: Annotated[
        int, typer.Option(min=0, help="Questions of each of ARC-c, MMLU and TriviaQA before and after; 0 for none.")
    ] = 0,
    budget: Annotated[
        float | None, typer.Option(min=0, help="Minutes after which to stop; run again to go on.")
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    list_: Annotated[bool, typer.Option("--list", help="Name the benchmarks and methods, and do nothing.")] = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Run knowledge-editing methods on the same requests, score what the model then says, and write a report.

    Every edit is a line of OUTPUT/records.jsonl, so a run that was stopped or killed goes on with the same command;
    methods can be added later, and more cases to single edits.

    Example: roselora bench edit --dataset zsre --data-dir DATA --methods rose,ft-m,rome --n 50 --covariance-text FILE
    """
    if list_:
        _list(json)
        return
    bench_, methods_ = _modules()
    names = list(methods_.METHODS) if methods == ALL else [name.strip() for name in methods.split(",")]
    bench = bench_.EditBench(
        dataset=dataset,
        data_dir=data_dir,
        methods=methods_.configured(names, set_ or [], file=settings, seed=seed, covariance_text=covariance_text),
        mode=mode,
        n=n,
        seed=seed,
        folder=output,
        fluency=fluency,
        capability=capability,
        seconds=None if budget is None else budget * 60,
        command=shlex.join(["roselora", *sys.argv[1:]]),
        skip=skip,
    )
    bench_.check_output(output)
    with working("reading data and model"):
        from roselora.models.loading import load

        loaded = load(model, device=device, dtype=dtype)
        plan, head = bench_.prepare(bench, loaded)
    if dry_run:
        from roselora.bench.records.edit_bench_records import read_edit_records
        from roselora.bench.running.edit_run import waiting

        _show_plan(waiting(plan, read_edit_records(output)), head, output, json)
        return
    head, records, paths = _run(bench, loaded, plan, head)
    if not json:
        _show_scores(head, records)
    show_written(paths, [failure for failure in head.failures if failure.method in bench.methods], json)


def _run(
    bench: "EditBench", loaded: "LoadedModel", plan: "EditPlan", head: "EditHead"
) -> "tuple[EditHead, list[EditRecord], list[Path]]":
    """Run it and write the report; where it is stopped, of what was done until then."""
    from roselora.bench.report.edit_report import write_report
    from roselora.bench.running import edit_bench as editing_bench

    try:
        with _progress() as on_progress:
            head, records = editing_bench.run(bench, loaded, plan, head, on_progress)
    except (StoppedError, KeyboardInterrupt) as stop:
        reason = str(stop) or "interrupted; the same command goes on with it."
        if (so_far := editing_bench.report_so_far(bench.folder)) is not None:
            write_report(so_far[0], so_far[1], bench.folder)
        raise StoppedError(f"{reason} What was done is in {bench.folder}.") from None
    return head, records, write_report(head, records, bench.folder)


def _modules() -> tuple[Any, Any]:
    """The benchmark and its methods, imported when they are needed, for they bring torch."""
    with working("loading torch and transformers"):
        try:
            from roselora.bench.running import edit_bench as editing_bench
            from roselora.bench.running import method_settings
        except ModuleNotFoundError as error:
            raise ConfigError(f"The benchmark needs {error.name}: pip install 'roselora[bench]' has it.") from None
        return editing_bench, method_settings


def _list(json: bool) -> None:
    from roselora.bench.methods.editing_methods import METHODS
    from roselora.bench.tasks.edit_datasets import DATASETS

    if json:
        print_json({"benchmarks": list(DATASETS), "methods": {name: each.paper for name, each in METHODS.items()}})
        return
    tell(("benchmarks", "bold"))
    for name, dataset in DATASETS.items():
        tell(f"  {name}: {dataset.file}")
    tell(("methods", "bold"))
    for name, method in METHODS.items():
        tell(f"  {name}: {method.paper}")


def _show_plan(waiting: dict[str, int], head: "EditHead", output: Path, json: bool) -> None:
    """What would be run, and nothing else."""
    shown = {
        "dry_run": True,
        "dataset": head.dataset,
        "mode": head.mode,
        "cases": head.n,
        "output": str(output),
        "edits_to_make": waiting,
        "settings": {name: head.methods[name] for name in waiting},
    }
    if json:
        print_json(shown)
        return
    tell(f"{head.n} edits of {head.dataset}, {head.mode}, into {output}")
    for name, count in waiting.items():
        settings = ", ".join(f"{field} {value}" for field, value in head.methods[name].items())
        tell(f"  {name}: {count} to make; {settings}")


def _show_scores(head: "EditHead", records: "list[EditRecord]") -> None:
    """The scores in brief; the report has their intervals, what they cost, and what can be said of them."""
    from rich.table import Table

    from roselora.bench.metrics.method_summary import summarize

    table = Table(box=None, pad_edge=False)
    columns = ("reliability", "generalization", "portability", "locality", "kl")
    for column in ("method", "edits", *columns):
        table.add_column(column, no_wrap=True)
    for row in summarize(records, head.methods):
        means = [getattr(row, column) for column in columns]
        cells = ["-" if mean is None else f"{mean.value:.3f}" for mean in means]
        table.add_row(row.method, str(row.edits), *cells)
    out.print(table)


@contextmanager
def _progress() -> Iterator[Callable[["At"], None]]:
    """On standard error: a bar with what is done and the time that is left, or lines where it is no terminal."""
    if not err.is_terminal:
        say = saying()
        yield lambda at: say(_line(at))
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("loading", total=None, left="")

        def on_progress(at: "At") -> None:
            bar.update(task, description=at.doing, left=_left(at))
            if at.total:
                bar.update(task, completed=at.done, total=at.total)

        yield on_progress


def _line(at: "At") -> str:
    where = f"{at.done}/{at.total} " if at.total else ""
    return f"{where}{at.doing} {_left(at)}".rstrip()


def _left(at: "At") -> str:
    if at.seconds_left is None:
        return ""
    hours, minutes = divmod(round(at.seconds_left / 60), 60)
    return f"about {hours} h {minutes} min left" if hours else f"about {max(1, minutes)} min left"
