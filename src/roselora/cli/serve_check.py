"""``roselora serve-check``: what programs that serve models answer with an export."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from roselora.cli.console import out, print_json, styled, tell, working
from roselora.cli.edit_display import asked_cell
from roselora.cli.option_groups import takes_options
from roselora.cli.path_options import PATH
from roselora.cli.stores import EditorOptions
from roselora.errors import ConfigError

if TYPE_CHECKING:
    from roselora.editing.editor import Editor
    from roselora.serving.engines import Export, Kind
    from roselora.serving.serve_check import Question, Verdict

NEIGHBOURS = 2
"""How many other subjects are asked for beside each edit's own."""
STYLES = {"holds": "green", "differs": "yellow", "cannot load": "red", "not installed": "dim"}


@takes_options()
def serve_check(
    options: EditorOptions,
    path: Annotated[Path, typer.Argument(**PATH, help="What `roselora export` wrote from this store.")],
    gguf: Annotated[
        Path | None, typer.Option(**PATH, help="The base's GGUF file, which llama.cpp loads a GGUF adapter beside.")
    ] = None,
) -> None:
    """Load an export in the programs that are installed, and compare their answers with the edited model's.

    Asked are the prompts of all active edits, in their forms, and the same of other subjects, by 16 tokens each. Each
    program runs in a process of its own. Exits with 1 if one differs or cannot load the export.

    Example: roselora serve-check merged/
    """
    from roselora.models.tokenization import decode
    from roselora.serving.engines import ENGINES
    from roselora.serving.exported_kind import kind_of
    from roselora.serving.serve_check import verdict

    kind = kind_of(path)
    editor = options.open_editor()
    export = _export(editor, path, kind, gguf)
    with working("asking the edited model"):
        questions = _questions(editor)
    verdicts = []
    for engine in ENGINES:
        if kind in engine.kinds:
            with working(f"asking {engine.name}"):
                verdicts.append(verdict(engine, export, questions, lambda ids: decode(editor.tokenizer, ids)))
    if options.json:
        print_json(
            {"path": str(path), "kind": kind, "questions": len(questions), "programs": list(map(asdict, verdicts))}
        )
    else:
        _print(verdicts, questions)
    if any(each.outcome in ("differs", "cannot load") for each in verdicts):
        raise typer.Exit(1)


def _export(editor: "Editor", path: Path, kind: "Kind", gguf: Path | None) -> "Export":
    """The export, with what its kind needs of the base."""
    from roselora.models.pretrained import is_gguf
    from roselora.serving.engines import Export
    from roselora.serving.merged_folder import base_folder

    name, base = editor.model.name_or_path or "", ""
    if kind == "gguf-lora":
        base = str(gguf or name)
        if not is_gguf(Path(base)):
            raise ConfigError("llama.cpp loads a GGUF adapter beside a GGUF file of the base; name that with --gguf.")
    elif kind in ("lora", "mlx"):
        folder = base_folder(name)
        if folder is None:
            raise ConfigError(f"This adapter is loaded beside its base, and {name or 'that'} is not a folder here.")
        base = str(folder)
    return Export(str(path.absolute()), kind, base)


def _questions(editor: "Editor") -> list["Question"]:
    """The prompts of all active edits and the same of other subjects, with the edited model's answers."""
    from roselora.editing.forms import asked_texts, request_texts
    from roselora.editing.methods.gate.other_subjects import other_subjects
    from roselora.models.generation import greedy_tokens
    from roselora.models.tokenization import decode, encode
    from roselora.serving.serve_check import TOKENS, Question

    model, tokenizer = editor.model, editor.tokenizer
    asked = []
    for request in (edit.request for edit in editor.edits):
        asked += [(text, True) for text in request_texts(tokenizer, request)]
        for prompt in other_subjects(model, tokenizer, request.prompt, request.subject, NEIGHBOURS):
            asked += [(text, False) for text in asked_texts(tokenizer, prompt, request.form, request.space)]
    if not asked:
        raise ConfigError("There is no active edit in the store, so there is nothing to ask for.")
    answers = greedy_tokens(model, tokenizer, [text.text for text, _ in asked], max_new_tokens=TOKENS)
    return [
        Question(text.prompt, text.form, tuple(encode(tokenizer, text.text)), decode(tokenizer, answer), edited)
        for (text, edited), answer in zip(asked, answers, strict=True)
    ]


def _print(verdicts: Sequence["Verdict"], questions: Sequence["Question"]) -> None:
    own = sum(question.edited for question in questions)
    tell(f"{own} prompts of edits, {len(questions) - own} of other subjects")
    for each in verdicts:
        lost = sum(difference.edited for difference in each.differences)
        moved = len(each.differences) - lost
        how = (
            each.why or f"edits {own - lost} of {own}, others {len(questions) - own - moved} of {len(questions) - own}"
        )
        tell(f"{each.program}: ", (each.outcome, STYLES[each.outcome]), f" ({how.rstrip('.')})")
        if each.differences:
            table = Table("prompt", "edited model", each.program, box=None, pad_edge=False)
            for difference in each.differences:
                prompt = asked_cell(difference.prompt, difference.form, first=True)
                table.add_row(prompt, styled(difference.expected), styled(difference.said))
            out.print(table)
