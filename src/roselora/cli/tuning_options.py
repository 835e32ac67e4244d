"""What the commands of the fine-tuning benchmarks are asked with, and how their lists are read."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from roselora.cli.path_options import PATH
from roselora.errors import ConfigError

ModelOption = Annotated[str, typer.Option(help="demo, mpnet, minilm, a folder, a .gguf file or a hub id.")]
ProtocolOption = Annotated[str, typer.Option(help="llm-adapters or loreft: whose prompts, decoding and answer rules.")]
MethodsOption = Annotated[str, typer.Option(help="Names with commas between; '' asks the untrained model alone.")]
SeedsOption = Annotated[str, typer.Option(help="Of training, with commas between: a run of each method.")]
SetsOption = Annotated[str | None, typer.Option(help="Names with commas between; all if left out.")]
QuestionsOption = Annotated[int | None, typer.Option("--n", min=1, help="Questions of each set; all if left out.")]
ExamplesOption = Annotated[int | None, typer.Option(min=1, help="Training records; all if left out.")]
RatesOption = Annotated[
    str,
    typer.Option(help="Learning rates with commas between: each method takes the one that does best on held-out rows."),
]
ForgettingOption = Annotated[
    int, typer.Option(min=0, help="Questions of each of ARC-c, MMLU and TriviaQA after each run; 0 for none.")
]
PresetOption = Annotated[
    str | None, typer.Option(help="Published settings of all methods; `roselora train --list-presets` names them.")
]
ConfigOption = Annotated[
    Path | None, typer.Option(**PATH, help="A `roselora train` file, whose adapter and training hold.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as adapter.rank=8, of all methods.")
]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Questions that a device answers together.")]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", **PATH, envvar="ROSELORA_DATA_DIR", help="The folder with the data; else from the hub."),
]
OutputOption = Annotated[Path, typer.Option(**PATH, help="A folder; one that holds a part is gone on with.")]


def wishes(
    *,
    model: str,
    methods: str,
    seeds: str,
    n: int | None,
    examples: int | None,
    rates: str,
    preset: str | None,
    config: Path | None,
    set_: list[str] | None,
    data_dir: Path | None,
    device: str | None,
    dtype: str | None,
    sets: str | None = None,
) -> dict[str, Any]:
    """What every command asks for, as arguments of a ``TuningRequest``, without benchmark, protocol and folder.

    Raises:
        ConfigError: a list of numbers holds something else.
    """
    return {
        "model": model,
        "methods": names(methods),
        "seeds": whole_numbers(seeds, "--seeds"),
        "sets": None if sets is None else names(sets),
        "n": n,
        "examples": examples,
        "preset": preset,
        "config": config,
        "overrides": tuple(set_ or ()),
        "rates": positive_numbers(rates, "--rates", "5e-4,2e-3"),
        "data_dir": data_dir,
        "device": device,
        "dtype": dtype,
        "command": shlex.join(["roselora", *sys.argv[1:]]),
    }


def names(text: str) -> tuple[str, ...]:
    """The names in a list with commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def whole_numbers(text: str, option: str) -> tuple[int, ...]:
    """The numbers in a list with commas.

    Raises:
        ConfigError: one is no whole number.
    """
    try:
        return tuple(int(number) for number in names(text))
    except ValueError:
        raise ConfigError(f"{option} {text!r} are not whole numbers with commas between, such as 0,1,2.") from None


def positive_numbers(text: str, option: str, example: str) -> tuple[float, ...]:
    """The numbers in a list with commas.

    Raises:
        ConfigError: one is no number above 0, or stands twice.
    """
    try:
        found = tuple(float(number) for number in names(text))
    except ValueError:
        found = (0.0,)
    if not all(0 < number < float("inf") for number in found) or len(set(found)) < len(found):
        raise ConfigError(
            f"{option} {text!r} are not different numbers above 0 with commas between, such as {example}."
        )
    return found
