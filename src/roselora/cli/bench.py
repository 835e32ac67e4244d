"""``roselora bench``: compare methods on the paper's benchmarks."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from roselora.cli.bench_display import bench_progress, repeating_command, show_result
from roselora.cli.bench_instruct import instruct
from roselora.cli.bench_tuning import arithmetic, commonsense, datasize, forgetting, glue
from roselora.cli.console import out, print_json, tell, working
from roselora.cli.device_options import DeviceOption, DtypeOption
from roselora.cli.path_options import PATH
from roselora.cli.stores import DryRunOption, JsonOption
from roselora.cli.tuning_options import DataDirOption
from roselora.editing.request import Form
from roselora.errors import ConfigError

if TYPE_CHECKING:
    from roselora.bench.records.edit_bench_records import EditHead, EditRecord

app = typer.Typer(
    name="bench", help="Compare methods on the paper's benchmarks.", no_args_is_help=True, rich_markup_mode="rich"
)
for command in (commonsense, arithmetic, instruct, glue, forgetting, datasize):
    app.command()(command)

ALL = "all"


@app.command()
def edit(
    model: Annotated[str, typer.Option(help="demo, a folder, a .gguf file or a hub id.")] = "demo",
    dataset: Annotated[
        str,
        typer.Option(
            help="The benchmark, which --list names, or a file of facts as `roselora edit MODEL --from FILE` reads."
        ),
    ] = "zsre",
    methods: Annotated[str, typer.Option(help="Names separated by commas, or all; --list names them.")] = ALL,
    mode: Annotated[
        Literal["single", "sequential", "batch"],
        typer.Option(
            help="single: each edit on a fresh model; sequential: one call after another, scored after all; batch: all "
            "edits in one call."
        ),
    ] = "single",
    n: Annotated[int | None, typer.Option(min=1, help="Number of cases, drawn by the seed; all by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="For the choice of cases and for every method.")] = 0,
    skip: Annotated[
        int,
        typer.Option(min=0, help="Cases of the shuffled order to skip, so that none is in an earlier draw."),
    ] = 0,
    without: Annotated[
        list[Path] | None,
        typer.Option(**PATH, help="The records.jsonl of an earlier run, whose cases are not drawn; may be repeated."),
    ] = None,
    form: Annotated[
        Form,
        typer.Option(
            help="In which edits are made and questions asked: as they stand, as a user's turn of the model's chat "
            "template, or both, which is bare where there is no template."
        ),
    ] = "both",
    output: Annotated[Path, typer.Option(**PATH, help="The output folder; a partial run there is resumed.")] = Path(
        "bench-edit"
    ),
    data_dir: DataDirOption = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="METHOD.FIELD=VALUE", help="A setting of one method.")
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(**PATH, help="A YAML or JSON file of METHOD: {FIELD: VALUE}; --set takes precedence."),
    ] = None,
    covariance_text: Annotated[
        Path | None, typer.Option(**PATH, help="A text file for the covariances of rome, memit and alphaedit.")
    ] = None,
    fluency: Annotated[bool, typer.Option("--fluency", help="Generate 100 tokens per case and score them.")] = False,
    capability: Annotated[
        int, typer.Option(min=0, help="Questions of each of ARC-c, MMLU and TriviaQA before and after; 0 for none.")
    ] = 0,
    budget: Annotated[
        float | None, typer.Option(min=0, help="Minutes after which to stop; the same command resumes the run.")
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    list_: Annotated[bool, typer.Option("--list", help="List the benchmarks and methods, and exit.")] = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Run knowledge-editing methods on the same requests, score what the model then generates, and write a report.

    Every edit is a line of OUTPUT/records.jsonl. Run the same command again to resume a run that was stopped, or with
    more methods; single edits also with more cases.

    Example: roselora bench edit --dataset zsre --data-dir DATA --methods rose,ft-m,rome --n 50 --covariance-text FILE
    """
    if list_:
        _list(json)
        return
    edit_plan, edit_bench, method_settings = _modules()
    chosen = list(method_settings.METHODS) if methods == ALL else [name.strip() for name in methods.split(",")]
    request = edit_plan.EditBenchRequest(
        dataset=dataset,
        data_dir=data_dir,
        methods=method_settings.configured(
            chosen, set_ or [], file=settings, seed=seed, covariance_text=covariance_text
        ),
        mode=mode,
        n=n,
        seed=seed,
        folder=output,
        fluency=fluency,
        capability=capability,
        seconds=None if budget is None else budget * 60,
        command=repeating_command(),
        skip=skip,
        without=tuple(without or ()),
        form=form,
    )
    edit_bench.check_output(output)
    with working("reading data and model"):
        from roselora.models.loading import load

        start = time.perf_counter()
        loaded = load(model, device=device, dtype=dtype)
        plan, head = edit_plan.make_plan(request, loaded, time.perf_counter() - start)
    if dry_run:
        _show_plan(edit_bench.described(plan, head), json)
        return
    with bench_progress() as on_progress:
        result, head, records = edit_bench.run_edit_bench(request, loaded, plan, head, on_progress)
    if not json:
        _show_scores(head, records)
    show_result(result, json)


def _modules() -> tuple[Any, Any, Any]:
    """The benchmark's plan, its run and its methods, imported only when needed, because they import torch."""
    with working("loading torch and transformers"):
        try:
            from roselora.bench.running import edit_bench, edit_plan, method_settings
        except ModuleNotFoundError as error:
            raise ConfigError(f"The benchmark needs {error.name}: pip install 'roselora[bench]'.") from None
        return edit_plan, edit_bench, method_settings


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
    """Print what would be run."""
    if json:
        print_json(shown)
        return
    forms = " and ".join(shown["forms"])
    tell(f"{shown['cases']} edits of {shown['dataset']}, {shown['mode']}, asked {forms}, into {shown['output']}")
    for name, count in shown["edits_to_make"].items():
        settings = ", ".join(f"{field} {value}" for field, value in shown["settings"][name].items())
        tell(f"  {name}: {count} to make; {settings}")


def _show_scores(head: "EditHead", records: "list[EditRecord]") -> None:
    """Print the mean scores; the report has their intervals, the costs and the paired comparisons."""
    from rich.table import Table

    from roselora.bench.metrics.method_summary import summarize

    table = Table(box=None, pad_edge=False)
    columns = ("reliability", "generalization", "locality", "nearest", "kl")
    for column in ("method", "form", *columns):
        table.add_column(column, no_wrap=True)
    for row in summarize(records, head.methods, forms=head.forms):
        for form, found in row.forms.items():
            means = [found.means.get(column) for column in columns]
            cells = ["-" if mean is None else f"{mean.value:.3f}" for mean in means]
            table.add_row(row.method, form, *cells)
    out.print(table)
