"""What a user asks of an edit."""

from collections.abc import Sequence
from dataclasses import dataclass

from roselora.errors import ConfigError


@dataclass(frozen=True)
class EditRequest:
    """A fact to be corrected.

    Args:
        prompt: text whose greedy continuation shall become the target.
        target: what the model shall say, on one line and then stop.
        subject: the name of what the fact is about, if known.
        rephrasings: other prompts that must give the target too.
        keep: prompts whose continuations must not move.

    Raises:
        ConfigError: an empty text, a target of several lines, or a prompt that is to change and to stay.
    """

    prompt: str
    target: str
    subject: str | None = None
    rephrasings: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", self.target.strip())
        for name in ("rephrasings", "keep"):
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        for name, text in (("prompt", self.prompt), ("target", self.target)):
            if not text.strip():
                raise ConfigError(f"The {name} of an edit must not be empty.")
        if len(self.target.splitlines()) > 1:
            raise ConfigError(f"The target must be one line, for an answer ends at its line's end: {self.target!r}.")
        contradiction = set(self.keep) & {self.prompt, *self.rephrasings}
        if contradiction:
            raise ConfigError(f"A prompt cannot be edited and kept at once: {min(contradiction)!r}.")

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompt and its rephrasings: all that must give the target."""
        return (self.prompt, *self.rephrasings)


def _texts(name: str, texts: Sequence[str]) -> tuple[str, ...]:
    if isinstance(texts, str):
        raise ConfigError(f"{name} must be a list of texts, not one text: {texts!r}.")
    if any(not text.strip() for text in texts):
        raise ConfigError(f"Every text in {name} must hold something.")
    return tuple(texts)
