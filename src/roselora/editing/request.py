"""What a user asks for: the fact to edit, and what must not change."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypedDict, get_args

from pydantic import ConfigDict

from roselora.errors import ConfigError
from roselora.user_files import shown

Form = Literal["bare", "chat", "both"]
"""In which forms a prompt is asked: as it stands, as a user's turn of the chat template, or both; see `forms`."""

BARE, CHAT, SYSTEM = "bare", "chat", "chat, system"
"""The names of the single forms: as it stands, as a user's turn, and as a user's turn behind a system prompt."""


@dataclass(frozen=True)
class EditRequest:
    """A fact to be corrected.

    Args:
        prompt: text whose greedy continuation is to become the target.
        target: what the model is to say, one line, after which it stops.
        subject: the name of what the fact is about, as the prompt has it, if known. Gated edits, ROME, MEMIT and
            AlphaEdit use it.
        rephrasings: other prompts that must give the target too.
        keep: prompts whose continuations must not change.
        space: whether a space stands between each prompt and the target; None decides by how the prompt ends, by the
            language's script and by the model's chat template (see `methods.answer_spacing`).
        form: in which forms the prompts must give the target, and the keep-prompts must not change: "bare", as they
            stand; "chat", as a user's turn of the model's chat template, with and without a system prompt; or "both",
            which is "bare" where there is no such template.
        consequences: facts that follow from this one and are edited with it: all of them are one edit, which is made,
            undone and checked as one. They have no consequences of their own.

    Raises:
        ConfigError: an argument is not text, is empty or has a lone surrogate, the target has several lines, a prompt
            is both to be edited and to be kept, there is no such form, or two of the facts contradict each other.

    Example:
        >>> from roselora import EditRequest
        >>> request = EditRequest("The capital of France is", "Rome", keep=("The capital of Spain is",))
        >>> request.prompts
        ('The capital of France is',)
    """

    prompt: str
    target: str
    subject: str | None = None
    rephrasings: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    space: bool | None = None
    form: Form = "both"
    consequences: tuple["EditRequest", ...] = ()

    __pydantic_config__: ClassVar = ConfigDict(strict=True)  # no type is converted when a stored request is read

    def __post_init__(self) -> None:
        for name in ("prompt", "target"):
            require_text(f"The {name} of an edit", getattr(self, name))
        if self.subject is not None:
            require_text("The subject of an edit", self.subject)
        for name in ("rephrasings", "keep"):
            object.__setattr__(self, name, texts(name, getattr(self, name)))
        object.__setattr__(self, "target", self.target.strip())
        if type(self.space) not in (bool, type(None)):
            raise ConfigError(f"space must be true or false, or left out, not {shown(self.space)}.")
        if self.form not in get_args(Form):
            raise ConfigError(f"form must be one of {', '.join(get_args(Form))}, not {shown(self.form)}.")
        if len(self.target.splitlines()) > 1:
            raise ConfigError(
                f"The target must be one line, because an answer ends with its line: {shown(self.target)}."
            )
        object.__setattr__(self, "consequences", _consequences(self.consequences))
        group = (self, *self.consequences)
        edited = [prompt for fact in group for prompt in dict.fromkeys(fact.prompts)]
        kept = {prompt for fact in group for prompt in fact.keep}
        if contradiction := kept.intersection(edited):
            raise ConfigError(f"A prompt cannot be edited and kept at once: {shown(min(contradiction))}.")
        if self.consequences and len(set(edited)) < len(edited):
            twice = next(prompt for prompt in edited if edited.count(prompt) > 1)
            raise ConfigError(f"A fact and its consequences cannot share a prompt: {shown(twice)}.")

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompt and its rephrasings: all that must give the target."""
        return (self.prompt, *self.rephrasings)

    @property
    def all_prompts(self) -> tuple[str, ...]:
        """The prompts of the fact and of its consequences."""
        return (*self.prompts, *(prompt for fact in self.consequences for prompt in fact.prompts))

    @property
    def facts(self) -> "tuple[EditRequest, ...]":
        """The fact itself and its consequences, each without any others."""
        return (replace(self, consequences=()), *self.consequences) if self.consequences else (self,)


def _consequences(given: Any) -> tuple[EditRequest, ...]:
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ConfigError(f"consequences must be a list of facts, not {shown(given)}.")
    found = tuple(given)
    for fact in found:
        if not isinstance(fact, EditRequest):
            raise ConfigError(f"Every one of the consequences must be an EditRequest, not {shown(fact)}.")
        if fact.consequences:
            raise ConfigError(f"A consequence cannot have consequences: {shown(fact.prompt)}.")
    return found


def require_subject(request: EditRequest) -> None:
    """Refuse a subject that is not in the prompt: gated edits could not ask the same of other subjects.

    Not a rule of every request, because a benchmark may name the subject in other words than its prompt.

    Raises:
        ConfigError: the subject is not in the prompt.
    """
    for fact in request.facts:
        if fact.subject is not None and fact.subject not in fact.prompt:
            raise ConfigError(
                f"The subject {shown(fact.subject)} is not in the prompt {shown(fact.prompt)}; copy it from there, "
                "or leave it out."
            )


class RequestDetails(TypedDict, total=False):
    """What `Editor.edit` takes beside prompt and target; see `EditRequest`."""

    subject: str | None
    rephrasings: Sequence[str]
    keep: Sequence[str]
    space: bool | None
    form: Form
    consequences: Sequence[EditRequest] | bool


def texts(name: str, given: Iterable[str]) -> tuple[str, ...]:
    """The given texts as a tuple; a single text is refused, because it would be taken for a list of its letters.

    Raises:
        ConfigError: this is a single text or not a collection, or one of its items is empty or not text.
    """
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ConfigError(f"{name} must be a list of texts, not {shown(given)}.")
    found = tuple(given)
    for text in found:
        require_text(f"Every text in {name}", text)
    return found


def require_text(what: str, value: Any) -> None:
    """Refuse a value that is not text, is blank, or has a lone surrogate (half of a character in UTF-16).

    Raises:
        ConfigError: it does; `what` names it in the message.
    """
    if not isinstance(value, str):
        raise ConfigError(f"{what} must be a text, not {shown(value)}.")
    if not value.strip():
        raise ConfigError(f"{what} must not be empty.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{what} has a lone surrogate at character {error.start + 1}, which UTF-8 cannot encode: {shown(value)}."
        ) from None
