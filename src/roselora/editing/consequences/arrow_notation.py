"""A consequence as one line of text: ``PROMPT | REPHRASING => TARGET``."""

from roselora.editing.methods.gate.prompt_subjects import guess_subject, subject_of
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError
from roselora.user_files import shown

ARROW, BAR = " => ", " | "


def as_line(consequence: EditRequest) -> str:
    """A consequence's prompts and target.

    >>> as_line(EditRequest("Lyon is the capital of", "France", rephrasings=("What is Lyon the capital of?",)))
    'Lyon is the capital of | What is Lyon the capital of? => France'
    """
    return f"{BAR.join(consequence.prompts)}{ARROW}{consequence.target}"


def from_line(line: str, request: EditRequest) -> EditRequest:
    """The consequence of a request that a line describes, in the request's form.

    It is about the request's target, or about its subject, whichever its prompt names first in this order.

    Raises:
        ConfigError: there is no arrow, or nothing on one of its sides.

    >>> fact = EditRequest("The capital of France is", "Lyon")
    >>> from_line("Lyon is the capital of => France", fact).subject
    'Lyon'
    """
    prompts, arrow, target = line.rpartition(ARROW)
    if not arrow:
        raise ConfigError(f'A consequence is written as "PROMPT{ARROW}TARGET", not {shown(line)}.')
    prompt, *rephrasings = prompts.split(BAR)
    names = [name for name in (request.target, subject_of(request)) if name is not None and name in prompt]
    subject = names[0] if names else guess_subject(prompt)
    return EditRequest(prompt, target, subject, tuple(rephrasings), form=request.form)
