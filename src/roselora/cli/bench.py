"""``roselora bench``: compare methods on the paper's benchmarks."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from roselora.cli.bench_display import bench_progress, show_result
from roselora.cli.bench_instruct import instruct
from roselora.cli.bench_parts import datasize, forgetting, glue
from roselora.cli.bench_tuning import HELP, command
from roselora.cli.console import out, print_json, tell, working
from roselora.cli.device_options import DeviceOption, DtypeOption
from roselora.cli.path_options import PATH
from roselora.cli.stores import DryRunOption, JsonOption
from roselora.cli.tuning_options import DataDirOption
from roselora.errors import ConfigError

if TYPE_CHECKING:
    from roselora.bench.records.edit_bench_records import EditHead, EditRecord

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
    bench = bench_.EditBenchRequest(
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
        plan, head = bench_.make_plan(bench, loaded)
    if dry_run:
        _show_plan(bench_.described(plan, head), json)
        return
    with bench_progress() as on_progress:
        result, head, records = bench_.run_edit_bench(bench, loaded, plan, head, on_progress)
    if not json:
        _show_scores(head, records)
    show_result(result, json)


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


def _show_plan(shown: dict[str, Any], json: bool) -> None:
    """What would be run, and nothing else."""
    if json:
        print_json(shown)
        return
    tell(f"{shown['cases']} edits of {shown['dataset']}, {shown['mode']}, into {shown['output']}")
    for name, count in shown["edits_to_make"].items():
        settings = ", ".join(f"{field} {value}" for field, value in shown["settings"][name].items())
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
