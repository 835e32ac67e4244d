"""``roselora edit``: correct a fact in a model and show the effect."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from roselora.cli.console import measuring, print_json, tell, training
from roselora.cli.device_options import DeviceOption, DtypeOption
from roselora.cli.edit_consequences import show_left_out, with_proposed
from roselora.cli.edit_display import show_answers, show_update
from roselora.cli.edit_from_file import edit_many
from roselora.cli.path_options import PATH
from roselora.cli.stores import (
    DEFAULT_STORE,
    DryRunOption,
    ForceOption,
    JsonOption,
    StoreOption,
    edit_as_json,
    open_editor,
)
from roselora.editing.consequences.arrow_notation import from_line
from roselora.editing.fact_files import read_requests
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.request import EditRequest, Form, require_subject
from roselora.errors import ConfigError

if TYPE_CHECKING:
    from roselora.editing.editor import Editor
    from roselora.editing.methods.train_edit import Settings


def edit(
    model: Annotated[str, typer.Argument(help="demo, a folder, a .gguf file or a hub id.")],
    prompt: Annotated[str | None, typer.Option(help="The text whose continuation is to change.")] = None,
    target: Annotated[str | None, typer.Option(help="The answer that the model should give instead.")] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            **PATH,
            help="Many facts from a .jsonl file of objects, a .json file with a list of them, or a .csv table. Fields: "
            "prompt and target; optionally subject, space (true or false), form, rephrasings and keep (lists; in a "
            "table one a line of the cell), and consequences (a list of such facts; not in a table).",
        ),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            help="What the fact is about, exactly as in the prompt. The gate method builds its training prompts from "
            "it. Guessed from the prompt by default."
        ),
    ] = None,
    rephrase: Annotated[list[str] | None, typer.Option(help="Another prompt that must give the target too.")] = None,
    keep: Annotated[list[str] | None, typer.Option(help="A prompt whose answer must not change.")] = None,
    consequence: Annotated[
        list[str] | None,
        typer.Option(
            metavar='"PROMPT => TARGET"',
            help="A fact that follows from this one, and is edited and undone with it. Other wordings follow the "
            'prompt: "PROMPT | REPHRASING => TARGET".',
        ),
    ] = None,
    with_consequences: Annotated[
        bool,
        typer.Option(
            "--with-consequences",
            help="Propose what follows from the fact, such as its inverse; in a terminal you can strike lines.",
        ),
    ] = False,
    space: Annotated[
        bool | None,
        typer.Option(
            "--space/--no-space",
            help="Whether a space separates prompt and target; by default, what suits the language and the prompt.",
        ),
    ] = None,
    form: Annotated[
        Form | None,
        typer.Option(
            help="In which forms the edit must hold. bare: the prompts as they stand. chat: as a user's turn of the "
            "model's chat template, with and without a system prompt. both: the default if there is a template."
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    method: Annotated[
        Literal["gate", "rose"] | None,
        typer.Option(
            help="gate: gated neurons, which replace a few neurons of one layer. rose: RoseLoRA, the paper's "
            "sparse low-rank factors, added to such neurons. By default gate, if the model's layers allow it."
        ),
    ] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Rank of RoseLoRA's factors that no neurons have.")] = None,
    density: Annotated[float | None, typer.Option(help="Fraction kept of each row of A and column of B.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's learning rate.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Training steps after which the edit fails.")] = None,
    seed: Annotated[int | None, typer.Option(help="For such factors' initial values.")] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Correct one fact by a sparse update, show the answers before and after, and save the edit in the store.

    The model's own files are never changed; `roselora export` writes an edited model. With --from, every fact of the
    file becomes an edit of its own, and facts that are in the store already are skipped, so an interrupted run can be
    repeated.

    Example: roselora edit demo --prompt "The capital of France is" --target Lyon
    """
    rose_options = _given(rank=rank, density=density, seed=seed)
    shared_options = _given(learning_rate=learning_rate, max_steps=max_steps)
    if rose_options and method != "rose":
        raise ConfigError(f"--{next(iter(rose_options))} is a setting of RoseLoRA's factors; add --method rose.")
    # All of the request is checked before the model is loaded, which takes long.
    settings = _settings(method, rose_options | shared_options)
    single = _given(prompt=prompt, target=target, subject=subject, rephrase=rephrase, keep=keep, space=space, form=form)
    single |= _given(consequence=consequence)
    requests = _requests(from_, single)
    for request in requests:
        require_subject(request)

    from roselora.editing.store.store_folder import has_store, require_place

    require_place(store)
    folder = None if dry_run and not has_store(store) else store
    editor = open_editor(folder, model, device, dtype, settings, force=force, requests=requests)
    editor.settings = replace(editor.settings, **shared_options)  # of the method that the model allows, if not named
    with measuring(f"measuring the neurons of {model} (once per model)") as on_progress:
        editor.prepare(on_progress)
    if with_consequences:
        requests = [with_proposed(editor, request, ask=from_ is None and not json) for request in requests]
    if from_ is not None:
        edit_many(editor, requests, store, dry_run=dry_run, json=json)
    else:
        _edit_one(editor, requests[0], store, dry_run=dry_run, json=json)


def _edit_one(editor: "Editor", request: EditRequest, store: Path, *, dry_run: bool, json: bool) -> None:
    """Make one edit, or with ``dry_run`` train it only, and show its effect."""
    details = {name: value for name, value in vars(request).items() if name not in ("prompt", "target")}
    targets = {edit.id: edit.request.target for edit in editor.edits}
    groups = {edit.id for edit in editor.edits if edit.request.consequences}
    count = len(request.facts)
    with training("editing", count * editor.settings.first_stop, count * editor.settings.max_steps) as on_step:
        if dry_run:
            proposal = editor.propose(request.prompt, request.target, **details, on_step=on_step)
            result = {**proposal.provenance, "id": None, "dry_run": True}
        else:
            result = edit_as_json(editor.edit(request.prompt, request.target, **details, on_step=on_step))
    if json:
        print_json(result)
        return
    show_answers(result["answers"], request.target)
    show_left_out(result)
    show_update(result, editor.model.num_parameters())
    if dry_run:
        tell("dry run: nothing was saved")
        return
    tell(f"edit {result['id']} is in the store {store}")
    for replaced in result.get("supersedes", ()):
        tell(f"it replaces edit {replaced}, '{targets[replaced]}', which is active again if you undo {result['id']}")
        if replaced in groups:
            tell(f"what followed from {replaced} still holds; to take that out too, undo {replaced}")


def _requests(facts: Path | None, single: dict[str, Any]) -> list[EditRequest]:
    """The facts of a file, or the single one of the options."""
    if facts is not None:
        if single:
            raise ConfigError(f"--from reads every fact from its file; leave out --{next(iter(single))}.")
        return read_requests(facts)
    if missing := [name for name in ("prompt", "target") if name not in single]:
        raise ConfigError(f"An edit needs --{missing[0]}; for many facts use --from FILE.")
    consequences = single.pop("consequence", ())
    request = EditRequest(rephrasings=single.pop("rephrase", ()), **single)
    return [replace(request, consequences=tuple(from_line(line, request) for line in consequences))]


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _settings(method: str | None, given: dict[str, Any]) -> "Settings | None":
    """The settings of a method; None without one, but the values are checked in any case."""
    kinds: dict[str, type[GateSettings] | type[EditSettings]] = {"gate": GateSettings, "rose": EditSettings}
    settings = kinds[method or "gate"](**given)
    return None if method is None else settings
