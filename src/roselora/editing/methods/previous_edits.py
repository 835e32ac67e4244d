"""The earlier edits of a model that a new one must not break."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from roselora.editing.request import EditRequest


@dataclass(frozen=True)
class PreviousEdits:
    """The edits that a new one must not break.

    Attributes:
        requests: active edits, and those that are made together with the new one, oldest first.
        neurons: by block, the neurons that hold active edits.
        undone: by block, the neurons that undone edits held. A new edit takes them only where an MLP has no others
            left, or only others that do something, because the undone one may be redone for as long as they are free.
    """

    requests: Sequence[EditRequest] = ()
    neurons: Mapping[int, Sequence[int]] = field(default_factory=dict)
    undone: Mapping[int, Sequence[int]] = field(default_factory=dict)

    @property
    def prompts(self) -> list[str]:
        """All of their prompts, each once."""
        return list(dict.fromkeys(prompt for request in self.requests for prompt in request.prompts))
