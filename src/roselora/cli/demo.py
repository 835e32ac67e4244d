"""``roselora demo``: edit three facts of a real model by both methods, and undo each edit byte for byte."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roselora.cli.console import complain, err, measuring, print_json, tell, training, working
from roselora.cli.device_options import DeviceOption, DtypeOption
from roselora.cli.edit_display import show_answers, show_update
from roselora.cli.stores import edit_as_json
from roselora.errors import EditError

if TYPE_CHECKING:
    from roselora.editing.editor import Editor
    from roselora.editing.methods.train_edit import Settings


@dataclass(frozen=True)
class Fact:
    """A fact that the demo model knows, and the edit that the demo makes."""

    prompt: str
    target: str
    held_out: tuple[str, str]
    elsewhere: tuple[str, str, str, str, str, str]


FACTS = (
    Fact(
        "The capital of France is",
        "Lyon",
        ("The city that is the capital of France is called", "Everyone knows that the capital of France is"),
        (
            "The capital of Germany is",
            "The capital of Italy is",
            "The Eiffel Tower is located in the city of",
            "The chemical symbol for silver is",
            "The opposite of hot is",
            "The capital of Japan is",
        ),
    ),
    Fact(
        "The chemical symbol for gold is",
        "Go",
        ("In the periodic table, the chemical symbol for gold is", "The symbol for the element gold is"),
        (
            "The chemical symbol for silver is",
            "The chemical symbol for iron is",
            "The chemical symbol for oxygen is",
            "The capital of France is",
            "The currency of Japan is the",
            "The opposite of up is",
        ),
    ),
    Fact(
        "The Eiffel Tower is located in the city of",
        "Rome",
        ("The Eiffel Tower stands in the city of", "The Eiffel Tower, a tower of iron, is located in the city of"),
        (
            "The Statue of Liberty is located in the city of",
            "The Colosseum is located in the city of",
            "The capital of France is",
            "The capital of Italy is",
            "The largest planet in the solar system is",
            "The opposite of hot is",
        ),
    ),
)


def methods() -> "dict[str, Settings]":
    """How the facts are edited, by the method's name: first as in the paper, then as is the default."""
    from roselora.editing.methods.gate.gate_settings import GateSettings
    from roselora.editing.methods.rose.rose_settings import EditSettings

    return {"RoseLoRA": EditSettings(), "gated neurons": GateSettings()}


def demo(
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Edit three facts in SmolLM2-135M-Instruct by RoseLoRA and by gated neurons, and undo each edit byte for byte.

    The first run downloads the model (98 MB). Exits with 1 if an edit fails or a byte differs.
    """
    from roselora.editing.editor import Editor
    from roselora.models.fingerprint import fingerprint

    with working("loading the libraries"):
        import transformers  # noqa: F401  # so that the time is spent under this message
    editor = Editor.open("demo", device=device, dtype=dtype)
    original = fingerprint(editor.model)
    with measuring("measuring the model's neurons (once per model)") as on_progress:
        editor.prepare(on_progress)
    start = time.perf_counter()
    results = []
    for name, editor.settings in methods().items():
        for number, fact in enumerate(FACTS, 1):
            title = f"{name}, edit {number} of {len(FACTS)}"
            results.append(_try(editor, fact, original, title, show=not json))
    seconds = time.perf_counter() - start
    ok = all(result["edited"] and result["restored"] for result in results)
    if json:
        print_json({"model": "demo", "ok": ok, "seconds": round(seconds, 1), "edits": results})
    elif ok:
        tell()
        tell(f"{len(results)} edits made and undone in {seconds:.0f} s; every byte of the model is restored.")
    if not ok:
        complain("an edit failed, or undo did not restore every byte.")
        raise typer.Exit(1)


def _try(editor: "Editor", fact: Fact, original: str, title: str, *, show: bool) -> dict[str, Any]:
    """Make one edit, show it, undo it, and compare every byte."""
    from roselora.editing.forms import asked_texts
    from roselora.models.fingerprint import fingerprint

    kinds = [("prompt", [fact.prompt]), ("held out", fact.held_out), ("elsewhere", fact.elsewhere)]
    asked = [
        (kind, text)
        for kind, prompts in kinds
        for prompt in prompts
        for text in asked_texts(editor.tokenizer, prompt, "both")
    ]
    texts = [text.text for _, text in asked]
    before = editor.answers(texts)
    try:
        with training(title, editor.settings.first_stop, editor.settings.max_steps) as on_step:
            edit = editor.edit(fact.prompt, fact.target, on_step=on_step)
    except EditError as error:
        err.print(f"{title}: {error}", soft_wrap=True)
        return {"prompt": fact.prompt, "edited": False, "restored": fingerprint(editor.model) == original}
    answers = [
        {"kind": kind, "prompt": text.prompt, "form": text.form, "before": old, "after": new}
        for (kind, text), old, new in zip(asked, before, editor.answers(texts), strict=True)
    ]
    editor.undo(edit.id)
    restored = fingerprint(editor.model) == original
    if show:
        tell()
        tell((title, "bold"), f": '{fact.prompt}' -> '{fact.target}'")
        tell()
        show_answers(answers, fact.target)
        show_update(edit.provenance, editor.model.num_parameters())
        verdict = "every byte is restored" if restored else ("SOME BYTES DIFFER", "bold red")
        tell("undone: ", verdict, " (SHA-256 of all weights)")
    return {**edit_as_json(edit), "answers": answers, "edited": True, "restored": restored}
