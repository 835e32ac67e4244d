"""``roselora train``: fine-tune a model from a config file."""

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from roselora.cli.console import err, print_json, tell, working
from roselora.cli.device_options import DeviceOverride, DtypeOverride
from roselora.cli.stores import DryRunOption, JsonOption
from roselora.errors import ConfigError, StoppedError

if TYPE_CHECKING:
    from roselora.training.train_settings import TrainSettings
    from roselora.training.training_progress import StepReport
    from roselora.training.training_run import Finished


def train(
    config: Annotated[str | None, typer.Argument(help="A config file in YAML; --init writes one.")] = None,
    init: Annotated[bool, typer.Option("--init", help="Print a config file with comments, and exit.")] = False,
    list_presets: Annotated[bool, typer.Option("--list-presets", help="List the presets, and exit.")] = False,
    preset: Annotated[str | None, typer.Option(help="Published settings; the config file takes precedence.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as adapter.density=0.1.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="demo, a folder, a .gguf file or a hub id.")] = None,
    data: Annotated[str | None, typer.Option(help="Training examples: a file or a hub id.")] = None,
    method: Annotated[
        Literal["rose", "lora", "dora", "adalora", "shira", "ia3", "prefix", "loreft", "full"] | None,
        typer.Option(help="The training method."),
    ] = None,
    output: Annotated[str | None, typer.Option(help="A new or empty folder.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="For initialization, dropout and order.")] = None,
    device: DeviceOverride = None,
    dtype: DtypeOverride = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the output's last checkpoint.")] = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Fine-tune a model with a sparse low-rank adapter, or with another method for comparison.

    Options override the config file, which overrides the preset, which overrides the defaults. Ctrl-C saves a
    checkpoint to resume from.

    Example: roselora train --init > config.yaml; then roselora train config.yaml
    """
    if init:
        from roselora.training.config_file import commented_config

        typer.echo(commented_config(), nl=False)
        return
    if list_presets:
        _list_presets(json)
        return
    options = {
        "model": model,
        "data.train": data,
        "method": method,
        "output": output,
        "training.seed": seed,
        "training.device": device,
        "training.dtype": dtype,
    }
    if config is None and preset is None and not set_ and all(value is None for value in options.values()):
        raise ConfigError("Name a config file; `roselora train --init > config.yaml` writes one.")
    settings = _settings(config, options, set_ or [], preset)
    from roselora.editing.store.store_folder import require_outside_stores

    require_outside_stores(Path(settings.output))
    if dry_run:
        _show_plan(settings, resume, json)
        return
    _run(settings, resume, json)


def _list_presets(json: bool) -> None:
    from roselora.training.presets import PRESETS, preset_values

    if json:
        print_json({name: {"source": preset.source, **preset_values(name)} for name, preset in PRESETS.items()})
        return
    for name, preset in PRESETS.items():
        tell(f"{name}: {preset.source}")


def _settings(config: str | None, options: dict[str, Any], overrides: list[str], preset: str | None) -> "TrainSettings":
    try:
        from roselora.training.config_file import read_settings
    except ModuleNotFoundError as error:
        raise ConfigError(f"Training needs {error.name}: install it with pip install 'roselora[train]'.") from None
    given = {name: str(value) for name, value in options.items() if value is not None}
    return read_settings(config, overrides, given, preset)


def _show_plan(settings: "TrainSettings", resume: bool, json: bool) -> None:
    with working("reading data and model"):
        from roselora.training.training_run import plan

        prepared, checkpoint = plan(settings, resume)
    shown = {
        "dry_run": True,
        "method": settings.method,
        "examples": len(prepared.examples.train),
        "left_out": prepared.examples.left_out,
        "eval_examples": None if prepared.examples.eval is None else len(prepared.examples.eval),
        "steps": prepared.total_steps,
        "trained_parameters": prepared.trainable,
        "from_checkpoint": checkpoint,
        "output": settings.output,
    }
    if json:
        print_json(shown)
        return
    for name, value in shown.items():
        tell(f"{name.replace('_', ' ')}: {value}")


def _run(settings: "TrainSettings", resume: bool, json: bool) -> None:
    with working("loading torch and transformers"):
        from roselora.training.model_card import CARD, write_card
        from roselora.training.output_folder import CONFIG
        from roselora.training.training_run import Interrupted
        from roselora.training.training_run import train as run
    with _progress() as on_step:
        outcome = run(settings, resume=resume, on_step=on_step, describe=write_card)
    if outcome is None:  # not the main process
        return
    if isinstance(outcome, Interrupted):
        launched = "" if outcome.processes == 1 else f" in {outcome.processes} processes"
        command = f"roselora train {_typed(Path(settings.output, CONFIG))} --resume"
        raise StoppedError(
            f"interrupted after step {outcome.step} of {outcome.total_steps}; the checkpoint is {outcome.checkpoint}. "
            f"Resume{launched} with: {command}"
        )
    card = outcome.artifacts.folder / CARD
    if json:
        print_json(_as_json(outcome, card))
    else:
        _show(outcome, card)


def _typed(path: Path) -> str:
    """A path quoted for a shell, with ./ in front if it would be read as an option."""
    return shlex.quote(os.path.join(".", path) if str(path).startswith("-") else str(path))


@contextmanager
def _progress() -> Iterator[Callable[["StepReport"], None]]:
    """A progress bar on standard error with step, loss, density and the remaining time."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("loading", total=None, state="")

        def on_step(at: "StepReport") -> None:
            state = f"step {at.step}/{at.total_steps}"
            state += "" if at.loss is None else f" loss {at.loss:.3f}"
            state += "" if at.density is None else f" density {at.density:.3f}"
            bar.update(task, description="training", completed=at.step, total=at.total_steps, state=state)

        yield on_step


def _as_json(finished: "Finished", card: Path) -> dict[str, Any]:
    counts, artifacts = finished.counts, finished.artifacts
    return {
        "method": finished.settings.method,
        "steps": finished.prepared.total_steps,
        "seconds": round(finished.seconds, 1),
        "trained_parameters": finished.prepared.trainable,
        "density": None if counts is None else counts.density,
        "entries_changed": None if counts is None else counts.update_nonzeros,
        "entries": None if counts is None else counts.entries,
        "sparsity": None if counts is None else counts.sparsity,
        "sparsity_bound": None if counts is None else counts.sparsity_bound,
        "metrics": finished.metrics,
        "adapter": str(artifacts.folder),
        "delta": None if artifacts.delta is None else str(artifacts.delta),
        "no_delta": artifacts.no_delta,
        "sha256": artifacts.sha256,
        "card": str(card),
    }


def _show(finished: "Finished", card: Path) -> None:
    lines = [f"{finished.prepared.total_steps} steps in {finished.seconds:.0f} s"]
    last = next((entry["loss"] for entry in reversed(finished.history) if "loss" in entry), None)
    if last is not None:
        lines.append(f"training loss {last:.3f}")
    lines += [f"{name.replace('eval_', 'validation ')} {value:.4f}" for name, value in finished.metrics.items()]
    tell(", ".join(lines))
    if finished.left_out:
        tell(f"{finished.left_out} examples were skipped because no completion token fits into max_length")
    if (counts := finished.counts) is not None:
        tell(f"verified: density {counts.density} in every row of A and column of B of {len(counts.matrices)} matrices")
        tell(
            f"changed {counts.update_nonzeros:,} of {counts.entries:,} entries; sparsity {counts.sparsity:.2%}, "
            f"Proposition 1 promises at least {counts.sparsity_bound:.2%}"
        )
    for name, size in finished.artifacts.bytes.items():
        tell(f"wrote {Path(finished.settings.output, name)} ({size / 1e6:.2f} MB)")
    if finished.settings.method == "rose" and finished.artifacts.no_delta:
        tell(f"no SparseDelta: {finished.artifacts.no_delta}")
    tell(f"wrote {card}")
