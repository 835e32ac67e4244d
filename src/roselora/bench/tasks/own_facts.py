"""Facts of the user's own as cases, from the files that `roselora edit --from` reads."""

from pathlib import Path
from typing import get_args

from roselora.bench.tasks.edit_case import EditCase, Probe
from roselora.editing.fact_files import Kind, read_requests
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError

ENDINGS = tuple(f".{kind}" for kind in get_args(Kind))

CONSEQUENCES, KEEP = "Consequences", "Keep"
"""The sub-types of the questions of portability and of locality."""


def own_cases(path: Path, name: str) -> list[EditCase]:
    """The facts of a file as cases, whose keys are ``name/number``, from 0.

    In an edit, rephrasings, consequences and keep-prompts say what to train. Here they are the questions, of
    generalization, of portability and of locality, and methods are given prompt, target and subject alone.

    >>> _ = Path("facts.jsonl").write_text('{"prompt": "Plum is in", "target": "Chad", "keep": ["Fig is in"]}')
    >>> own_cases(Path("facts.jsonl"), "facts.jsonl")[0].locality
    {'Keep': (Probe(prompt='Fig is in', answers=()),)}

    Raises:
        ConfigError: the file cannot be read, or a fact in it is invalid or sets what the benchmark decides.
    """
    return [_case(request, f"{name}/{number}") for number, request in enumerate(read_requests(path))]


def _case(request: EditRequest, key: str) -> EditCase:
    for fact in (request, *request.consequences):
        if fact.space is not None or fact.form != "both":
            raise ConfigError(
                f"The fact of {key} sets space or form, which a benchmark decides for all facts alike: leave them out."
            )
    follows = [Probe(prompt, (fact.target,)) for fact in request.consequences for prompt in fact.prompts]
    kept = [Probe(prompt, ()) for fact in (request, *request.consequences) for prompt in fact.keep]
    return EditCase(
        key,
        request.prompt,
        request.target,
        request.subject,
        rephrasings=request.rephrasings,
        portability={CONSEQUENCES: tuple(follows)},
        locality={KEEP: tuple(kept)},
    )
