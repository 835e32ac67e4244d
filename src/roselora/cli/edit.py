"""``roselora edit``: correct one fact in a model and show what it did."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from roselora.cli.console import measuring, out, print_json, training
from roselora.cli.stores import DEFAULT_STORE, DryRunOption, JsonOption, StoreOption, edit_as_json, open_editor
from roselora.cli.trial import show_answers, show_update
from roselora.editing.neuron_settings import NeuronSettings
from roselora.editing.request import EditRequest
from roselora.editing.settings import EditSettings
from roselora.errors import ConfigError

if TYPE_CHECKING:
    from roselora.editing.trained import Settings


def edit(
    model: Annotated[str, typer.Argument(help="demo, a folder, a .gguf file or a hub id.")],
    prompt: Annotated[str, typer.Option(help="Text whose continuation is to change.")],
    target: Annotated[str, typer.Option(help="What the model shall say instead, and then stop.")],
    subject: Annotated[str | None, typer.Option(help="What the fact is about; `check` compares subjects.")] = None,
    rephrase: Annotated[list[str] | None, typer.Option(help="Another prompt that must give the target too.")] = None,
    keep: Annotated[list[str] | None, typer.Option(help="A prompt whose answer must not move.")] = None,
    store: StoreOption = DEFAULT_STORE,
    method: Annotated[
        Literal["neurons", "factors"] | None,
        typer.Option(
            help="Replace a few neurons of one layer, or train sparse low-rank factors in every layer, as the paper "
            "does. By default neurons, where the model's layers allow it."
        ),
    ] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Rank of the factors.")] = None,
    density: Annotated[float | None, typer.Option(help="Fraction kept of each row of A and column of B.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of Adam.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Steps after which the edit has failed.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the factors' initial values.")] = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Correct one fact by a sparse update, show the answers before and after, and keep the edit in the store.

    The model's own files are never written; `roselora export` writes an edited model.

    Example: roselora edit demo --prompt "The capital of France is" --target Lyon
    """
    factors = _given(rank=rank, density=density)
    both = _given(learning_rate=learning_rate, max_steps=max_steps, seed=seed)
    if factors and method != "factors":
        raise ConfigError("A rank or a density is one of factors; add --method factors.")
    settings = _settings(method, factors | both)
    request = EditRequest(prompt, target, subject, tuple(rephrase or ()), tuple(keep or ()))  # refused before loading

    fresh = dry_run and not store.exists()
    editor = open_editor(None if fresh else store, model, settings)
    editor.settings = replace(editor.settings, **both)  # of the method that the model allows, where none was named
    with measuring(f"reading what {model} says, once for a model") as on_progress:
        editor.prepare(on_progress)
    details: dict[str, Any] = {"subject": subject, "rephrasings": request.rephrasings, "keep": request.keep}
    with training("editing", editor.settings.first_stop, editor.settings.max_steps) as on_step:
        if dry_run:
            proposal = editor.propose(prompt, target, **details, on_step=on_step)
            result = {"id": None, "dry_run": True, **proposal.provenance}
        else:
            result = edit_as_json(editor.edit(prompt, target, **details, on_step=on_step))
    if json:
        print_json(result)
        return
    show_answers(result["answers"], request.target)
    show_update(result, editor.model.num_parameters())
    if dry_run:
        out.print("dry run: nothing was kept", highlight=False)
    else:
        out.print(f"edit {result['id']} is in the store {store}", highlight=False, soft_wrap=True)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _settings(method: str | None, given: dict[str, Any]) -> "Settings | None":
    """The settings of a method, or None for whichever the model allows; what is given is refused before loading."""
    made: dict[str, type[NeuronSettings] | type[EditSettings]] = {"neurons": NeuronSettings, "factors": EditSettings}
    settings = made[method or "neurons"](**given)
    return None if method is None else settings
