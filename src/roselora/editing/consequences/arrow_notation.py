"""A consequence as one line of text: ``PROMPT | REPHRASING => TARGET``, or a JSON object."""

import json
import re

from pydantic import TypeAdapter, ValidationError

from roselora.editing.methods.gate.prompt_subjects import guess_subject, subject_of
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError
from roselora.user_files import shown

ARROW, BAR = " => ", " | "


def as_line(consequence: EditRequest, request: EditRequest) -> str:
    """A consequence of a request as a line: with an arrow if that says all of it, else as a JSON object.

    >>> fact = EditRequest("The capital of France is", "Lyon")
    >>> as_line(EditRequest("Lyon is the capital of", "France", "Lyon"), fact)
    'Lyon is the capital of => France'
    """
    line = f"{BAR.join(consequence.prompts)}{ARROW}{consequence.target}"
    if from_line(line, request) == consequence:
        return line
    fields = {name: getattr(consequence, name) for name in ("prompt", "target", "subject", "rephrasings")}
    return json.dumps({name: value for name, value in fields.items() if value}, ensure_ascii=False)


def from_line(line: str, request: EditRequest) -> EditRequest:
    """The consequence of a request that a line describes, in the request's form.

    One with an arrow is about the request's target, or about its subject, whichever of these its prompt names.

    Raises:
        ConfigError: there is no arrow, nothing on one of its sides, or the JSON object is not a fact.

    >>> fact = EditRequest("The capital of France is", "Lyon")
    >>> from_line("Lyon is the capital of => France", fact).subject
    'Lyon'
    """
    if line.lstrip().startswith("{"):
        try:
            fields = TypeAdapter(dict[str, str | list[str]]).validate_json(line)
            return EditRequest(**fields, form=request.form)  # type: ignore[arg-type]
        except (ValidationError, TypeError):
            raise ConfigError(
                f"A consequence in JSON is an object with prompt and target, not {shown(line)}."
            ) from None
    prompts, arrow, target = line.rpartition(ARROW)
    if not arrow:
        raise ConfigError(f'A consequence is written as "PROMPT{ARROW}TARGET", not {shown(line)}.')
    prompt, *rephrasings = prompts.split(BAR)
    names = [name for name in (request.target, subject_of(request)) if name is not None and _names(prompt, name)]
    subject = names[0] if names else guess_subject(prompt)
    return EditRequest(prompt, target, subject, tuple(rephrasings), form=request.form)


def _names(prompt: str, name: str) -> bool:
    """Whether a prompt has a name that is no part of a longer word."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", prompt) is not None
