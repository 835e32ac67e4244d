"""``roselora edit``: correct one fact in a model and show what it did."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from roselora.cli.console import measuring, print_json, tell, training
from roselora.cli.device_options import DeviceOption, DtypeOption
from roselora.cli.edit_display import show_answers, show_update
from roselora.cli.path_options import PATH
from roselora.cli.repair import edit_many
from roselora.cli.stores import (
    DEFAULT_STORE,
    DryRunOption,
    ForceOption,
    JsonOption,
    StoreOption,
    edit_as_json,
    open_editor,
)
from roselora.editing.fact_files import read_requests
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError

if TYPE_CHECKING:
    from roselora.editing.methods.train_edit import Settings


def edit(
    model: Annotated[str, typer.Argument(help="demo, a folder, a .gguf file or a hub id.")],
    prompt: Annotated[str | None, typer.Option(help="Text whose continuation is to change.")] = None,
    target: Annotated[str | None, typer.Option(help="What the model shall say instead, and then stop.")] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            **PATH,
            help="Many facts instead: a .jsonl file of objects with the fields prompt and target, and if you like "
            "subject, space (true or false), rephrasings and keep (lists); or a .json file with a list of them.",
        ),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            help="The name of what the fact is about, as the prompt has it. It shapes a gated edit, for the prompts "
            "that must wake it and those that must not are made of it. Guessed from the prompt if left out."
        ),
    ] = None,
    rephrase: Annotated[list[str] | None, typer.Option(help="Another prompt that must give the target too.")] = None,
    keep: Annotated[list[str] | None, typer.Option(help="A prompt whose answer must not move.")] = None,
    space: Annotated[
        bool | None,
        typer.Option(
            "--space/--no-space",
            help="Whether a space stands between prompt and target. By default as language and prompt want it.",
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    method: Annotated[
        Literal["gate", "rose"] | None,
        typer.Option(
            help="gate: gated neuron edits, which replace a few neurons of one layer. rose: RoseLoRA, sparse low-rank "
            "factors in every layer, as in the paper. By default gate, where the model's layers allow it."
        ),
    ] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Rank of RoseLoRA's factors.")] = None,
    density: Annotated[float | None, typer.Option(help="Fraction kept of each row of A and column of B.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of Adam.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Steps after which the edit has failed.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the initial values of RoseLoRA's factors.")] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Correct one fact by a sparse update, show the answers before and after, and keep the edit in the store.

    The model's own files are never written; `roselora export` writes an edited model. With --from every fact of a file
    becomes an edit of its own; those that are in the store already are skipped, so an interrupted run can be repeated.

    Example: roselora edit demo --prompt "The capital of France is" --target Lyon
    """
    factors = _given(rank=rank, density=density, seed=seed)
    both = _given(learning_rate=learning_rate, max_steps=max_steps)
    if factors and method != "rose":
        raise ConfigError(f"--{next(iter(factors))} is a setting of RoseLoRA's factors; add --method rose.")
    settings = _settings(method, factors | both)
    about_one = _given(prompt=prompt, target=target, subject=subject, rephrase=rephrase, keep=keep, space=space)
    requests = _requests(from_, about_one)  # refused before loading

    from roselora.editing.store.store_folder import has_store, require_place

    require_place(store)  # before the model is loaded, and in a dry run too
    fresh = dry_run and not has_store(store)
    editor = open_editor(None if fresh else store, model, device, dtype, settings, force=force, requests=requests)
    editor.settings = replace(editor.settings, **both)  # of the method that the model allows, where none was named
    with measuring(f"reading what {model} says, once for a model") as on_progress:
        editor.prepare(on_progress)
    if from_ is not None:
        edit_many(editor, requests, store, dry_run=dry_run, json=json)
        return
    (request,) = requests
    details = {name: value for name, value in vars(request).items() if name not in ("prompt", "target")}
    older = {edit.id: edit.request.target for edit in editor.edits}
    with training("editing", editor.settings.first_stop, editor.settings.max_steps) as on_step:
        if dry_run:
            proposal = editor.propose(request.prompt, request.target, **details, on_step=on_step)
            result = {**proposal.provenance, "id": None, "dry_run": True}
        else:
            result = edit_as_json(editor.edit(request.prompt, request.target, **details, on_step=on_step))
    if json:
        print_json(result)
        return
    show_answers(result["answers"], request.target)
    show_update(result, editor.model.num_parameters())
    if dry_run:
        tell("dry run: nothing was kept")
    else:
        tell(f"edit {result['id']} is in the store {store}")
        for id in result.get("supersedes", ()):
            tell(f"it takes the place of edit {id}, '{older[id]}', which holds again if you undo {result['id']}")


def _requests(facts: Path | None, about_one: dict[str, Any]) -> list[EditRequest]:
    """The facts of a file, or the one that the options name."""
    if facts is not None:
        if about_one:
            raise ConfigError(f"--from takes every fact from its file; leave out --{next(iter(about_one))}.")
        return [_with_its_subject(request) for request in read_requests(facts)]
    if missing := [name for name in ("prompt", "target") if name not in about_one]:
        raise ConfigError(f"An edit needs a --{missing[0]}, or many facts --from a file.")
    return [_with_its_subject(EditRequest(rephrasings=about_one.pop("rephrase", ()), **about_one))]


def _with_its_subject(request: EditRequest) -> EditRequest:
    """Refuse a subject that is not in the prompt: a gated edit would be made without the prompts that it shapes."""
    if request.subject is not None and request.subject not in request.prompt:
        raise ConfigError(
            f"The subject {request.subject!r} is not in the prompt {request.prompt!r}; write it as it stands there, or "
            "leave it out."
        )
    return request


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _settings(method: str | None, given: dict[str, Any]) -> "Settings | None":
    """The settings of a method, or None for whichever the model allows; what is given is refused before loading."""
    made: dict[str, type[GateSettings] | type[EditSettings]] = {"gate": GateSettings, "rose": EditSettings}
    settings = made[method or "gate"](**given)
    return None if method is None else settings
