"""``roselora edit``: correct one fact in a model and show what it did."""

from pathlib import Path
from typing import Annotated

import typer

from roselora.cli.console import err, out, print_json, working
from roselora.cli.trial import run_trial, show_trial
from roselora.errors import ConfigError


def edit(
    model: Annotated[str, typer.Argument(help="demo, a folder, a .gguf file or a hub id.")],
    prompt: Annotated[str, typer.Option(help="Text whose continuation is to change.")],
    target: Annotated[str, typer.Option(help="What the model shall say instead, and then stop.")],
    rephrase: Annotated[list[str] | None, typer.Option(help="Another prompt that must give the target too.")] = None,
    keep: Annotated[list[str] | None, typer.Option(help="A prompt whose answer must not move.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder to save the edited model in; without it this is a trial run.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the adapter's initial values.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Correct one fact in a model by a sparse update, and show the answers before and after.

    Example: roselora edit demo --prompt "The capital of France is" --target Lyon
    """
    rephrasings, kept = rephrase or [], keep or []
    if output is not None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"--output {output} exists already; name a folder that is new or empty.")

    from roselora.editing.editor import Editor
    from roselora.editing.optimize import EditSettings
    from roselora.editing.request import EditRequest
    from roselora.models.saving import save

    EditRequest(prompt, target, None, tuple(rephrasings), tuple(kept))  # refuse what cannot be meant before loading
    with working(f"loading {model}"):
        editor = Editor.open(model, settings=EditSettings(seed=seed))
    shown = [("rephrasing", text) for text in rephrasings] + [("keep", text) for text in kept]
    trial = run_trial(editor, prompt, target, shown, rephrasings=rephrasings, keep=kept)
    if output is not None:
        with working(f"saving to {output}"):
            save(editor.model, editor.tokenizer, output)
    if json:
        print_json({"model": model, **trial.as_json(), "output": str(output) if output else None})
        return
    show_trial(trial, editor.model.num_parameters())
    if output is not None:
        out.print(f"The edited model is in {output}", highlight=False)
    else:
        err.print("Nothing was saved; give --output FOLDER to keep the edited model.", highlight=False)
