"""The options of the fine-tuning benchmarks: those that all share, and those that several have."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roselora.cli.bench_display import repeating_command
from roselora.cli.device_options import DeviceOverride, DtypeOverride
from roselora.cli.path_options import PATH
from roselora.cli.stores import DryRunOption, JsonOption
from roselora.errors import ConfigError

if TYPE_CHECKING:
    from roselora.bench.running.tuning_plan import TuningRequest

DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", **PATH, envvar="ROSELORA_DATA_DIR", help="The folder with the data; by default the hub is used."
    ),
]
ProtocolOption = Annotated[str, typer.Option(help="llm-adapters or loreft: whose prompts, decoding and answer rules.")]
SetsOption = Annotated[str | None, typer.Option(help="Names of test sets, separated by commas; all by default.")]
QuestionsOption = Annotated[int | None, typer.Option("--n", min=1, help="Questions of each set; all by default.")]
ForgettingOption = Annotated[
    int, typer.Option(min=0, help="Questions of each of ARC-c, MMLU and TriviaQA after each run; 0 for none.")
]


@dataclass(frozen=True, kw_only=True)
class TuningOptions:
    """The options of every fine-tuning benchmark."""

    model: Annotated[str, typer.Option(help="demo, mpnet, minilm, a folder, a .gguf file or a hub id.")] = "demo"
    methods: Annotated[str, typer.Option(help="Names separated by commas; '' evaluates the untrained model alone.")] = (
        "rose,lora"
    )
    seeds: Annotated[str, typer.Option(help="Training seeds separated by commas: one run of each method per seed.")] = (
        "0"
    )
    examples: Annotated[int | None, typer.Option(min=1, help="Training examples; all by default.")] = None
    rates: Annotated[
        str,
        typer.Option(
            help="Learning rates separated by commas: each method uses the one that is best on the validation set."
        ),
    ] = ""
    preset: Annotated[
        str | None, typer.Option(help="Published settings for all methods; `roselora train --list-presets` names them.")
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(**PATH, help="A `roselora train` config file: its adapter and training sections are used."),
    ] = None
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting for all methods, such as adapter.rank=8."),
    ] = None
    batch_size: Annotated[int, typer.Option(min=1, help="Questions that a device answers together.")] = 16
    data_dir: DataDirOption = None
    device: DeviceOverride = None
    dtype: DtypeOverride = None
    output: Annotated[Path, typer.Option(**PATH, help="The output folder; a partial run there is resumed.")] = Path(
        "bench"
    )
    dry_run: DryRunOption = False
    json: JsonOption = False

    def request(self, benchmark: str, protocol: str, **own: Any) -> "TuningRequest":
        """The request for a run of a benchmark. Imports torch.

        Args:
            benchmark, protocol: by name.
            own: what only some commands set: ``sets``, ``n``, ``forgetting``.

        Raises:
            ConfigError: a list of numbers contains something else.
        """
        from roselora.bench.running.tuning_plan import TuningRequest

        return TuningRequest(
            benchmark=benchmark,
            protocol=protocol,
            folder=self.output,
            model=self.model,
            methods=names(self.methods),
            seeds=whole_numbers(self.seeds, "--seeds"),
            examples=self.examples,
            preset=self.preset,
            config=self.config,
            overrides=tuple(self.set_ or ()),
            rates=positive_numbers(self.rates, "--rates", "5e-4,2e-3"),
            data_dir=self.data_dir,
            device=self.device,
            dtype=self.dtype,
            command=repeating_command(),
            **own,
        )


def optional_names(text: str | None) -> tuple[str, ...] | None:
    """The names in a list separated by commas; None, for all, without a list."""
    return None if text is None else names(text)


def names(text: str) -> tuple[str, ...]:
    """The names in a list separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def whole_numbers(text: str, option: str) -> tuple[int, ...]:
    """The whole numbers in a list separated by commas.

    Raises:
        ConfigError: one is not a whole number.
    """
    try:
        return tuple(int(number) for number in names(text))
    except ValueError:
        raise ConfigError(f"{option} {text!r} must be whole numbers separated by commas, such as 0,1,2.") from None


def positive_numbers(text: str, option: str, example: str) -> tuple[float, ...]:
    """The numbers in a list separated by commas.

    Raises:
        ConfigError: one is not a number above 0, or occurs twice.
    """
    try:
        found = tuple(float(number) for number in names(text))
    except ValueError:
        found = (0.0,)
    if not all(0 < number < float("inf") for number in found) or len(set(found)) < len(found):
        raise ConfigError(
            f"{option} {text!r} must be different numbers above 0 separated by commas, such as {example}."
        )
    return found
