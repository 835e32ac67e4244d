"""``roselora serve-check``: what programs that serve models answer with an export."""

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from roselora.cli.console import out, print_json, styled, tell, working
from roselora.cli.edit_display import asked_cell
from roselora.cli.option_groups import takes_options
from roselora.cli.path_options import PATH, typed_path
from roselora.cli.serve_questions import questions
from roselora.cli.stores import EditorOptions, base_of_adapter, load_base
from roselora.errors import ConfigError

if TYPE_CHECKING:
    from roselora.serving.engines import Engine, Export, Kind
    from roselora.serving.serve_check import Question, Verdict

STYLES = {"holds": "green", "differs": "yellow", "cannot load": "red", "not installed": "dim"}


@takes_options()
def serve_check(
    options: EditorOptions,
    path: Annotated[Path, typer.Argument(**PATH, help="What `roselora export` wrote.")],
    adapter: Annotated[
        Path | None,
        typer.Option(**PATH, help="What was exported is this trained LoRA adapter's folder, not a store's edits."),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            **PATH,
            help="Ask the prompts of this file in place of other subjects than the edits': a .txt file, one a line, or "
            "the field prompt of a .jsonl, .json or .csv file. An adapter has no edits, so it needs them.",
        ),
    ] = None,
    gguf: Annotated[
        Path | None, typer.Option(**PATH, help="The base's GGUF file, which llama.cpp loads a GGUF adapter beside.")
    ] = None,
    python: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROGRAM=PATH",
            help="Ask a program by another environment's Python, such as vLLM=/opt/vllm/bin/python. Once a program.",
        ),
    ] = None,
) -> None:
    """Load an export in the programs that are installed, and compare their answers with the edited model's.

    Asked are the prompts of all active edits, in their forms, and the same of other subjects, by 16 tokens each. Each
    program runs in a process of its own. Exits with 1 if one differs or cannot load the export, or none is installed.

    Example: roselora serve-check merged/
    """
    from roselora.delta.overlay import Overlay
    from roselora.models.tokenization import decode
    from roselora.serving.exported_kind import kind_of
    from roselora.serving.lora_folder import import_lora
    from roselora.serving.serve_check import verdict
    from roselora.training.retained_prompts import read_prompts

    kind = kind_of(path)
    engines = _engines(kind, python or ())
    others = None if prompts is None else read_prompts(str(prompts))
    if adapter is None:
        editor = options.open_editor()
        model, tokenizer = editor.model, editor.tokenizer
        edits = [fact for edit in editor.edits for fact in edit.request.facts]
    elif others is None:
        raise ConfigError("An adapter has no edits to ask for; name a file of prompts with --prompts.")
    else:
        loaded = load_base(options, base_of_adapter(options, adapter))
        Overlay(loaded.model).apply("adapter", import_lora(adapter, loaded.model))
        model, tokenizer, edits = loaded.model, loaded.tokenizer, []
    export = _export(model.name_or_path or "", path, kind, gguf)
    with working("asking the edited model"):
        asked = questions(model, tokenizer, edits, others)
    verdicts = []
    for engine in engines:
        with working(f"asking {engine.name}"):
            verdicts.append(verdict(engine, export, asked, lambda ids: decode(tokenizer, ids)))
    if options.json:
        print_json({"path": str(path), "kind": kind, "questions": len(asked), "programs": list(map(asdict, verdicts))})
    else:
        _print(verdicts, asked)
    if {each.outcome for each in verdicts} - {"not installed"} != {"holds"}:
        raise typer.Exit(1)


def _engines(kind: "Kind", pythons: Sequence[str]) -> "list[Engine]":
    """The programs that load such an export, each with the interpreter that is named for it."""
    from roselora.serving.engines import ENGINES

    found = {engine.name.casefold(): engine for engine in ENGINES if kind in engine.kinds}
    for each in pythons:
        name, _, path = each.partition("=")
        engine = found.get(name.casefold())
        if engine is None or not path:
            names = ", ".join(engine.name for engine in found.values())
            raise ConfigError(f"--python {each} is not PROGRAM=PATH with a program that loads a {kind}: {names}.")
        if engine.python is not None:
            raise ConfigError(f"--python names {engine.name} twice; ask one after the other.")
        found[name.casefold()] = replace(engine, python=str(typed_path(path)) if os.sep in path else path)
    return list(found.values())


def _export(name: str, path: Path, kind: "Kind", gguf: Path | None) -> "Export":
    """The export, with what its kind needs of the base."""
    from roselora.models.pretrained import is_gguf
    from roselora.serving.engines import Export
    from roselora.serving.merged_folder import base_folder

    base = ""
    if gguf is not None and kind != "gguf-lora":
        raise ConfigError(f"--gguf is for a GGUF adapter, and {path} is of the kind {kind}.")
    if kind == "gguf-lora":
        base = str((gguf or Path(name)).absolute())
        if not is_gguf(Path(base)):
            if gguf is not None:
                raise ConfigError(f"{gguf} is not there, or no GGUF file.")
            raise ConfigError("llama.cpp loads a GGUF adapter beside a GGUF file of the base; name that with --gguf.")
    elif kind in ("lora", "mlx"):
        folder = base_folder(name)
        if folder is None:
            raise ConfigError(f"This adapter is loaded beside its base, and {name or 'that'} is not a folder here.")
        base = str(folder)
    elif kind == "model" and (folder := base_folder(name)) is not None:
        # The questions are tokens, so a program may answer them without the files that a server needs.
        names = sorted(each.name for each in folder.glob("*token*") if each.is_file())
        if missing := [name for name in names if not (path / name).is_file()]:
            raise ConfigError(f"{path} has no {missing[0]}, which its base has; export again.")
    return Export(kind, str(path.absolute()), base)


def _print(verdicts: Sequence["Verdict"], questions: Sequence["Question"]) -> None:
    own = sum(question.edited for question in questions)
    tell(f"{own} prompts of edits, {len(questions) - own} others")
    for each in verdicts:
        lost = sum(difference.edited for difference in each.differences)
        moved = len(each.differences) - lost
        how = (
            each.why or f"edits {own - lost} of {own}, others {len(questions) - own - moved} of {len(questions) - own}"
        )
        tell(
            f"{each.program} {each.version}".rstrip(),
            ": ",
            (each.outcome, STYLES[each.outcome]),
            f" ({how.rstrip('.')})",
        )
        if each.differences:
            table = Table("prompt", "edited model", each.program, box=None, pad_edge=False)
            for difference in each.differences:
                prompt = asked_cell(difference.prompt, difference.form, first=True)
                table.add_row(prompt, styled(difference.expected), styled(difference.said))
            out.print(table)
