"""The earlier edits of a model that a new one must not break."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from roselora.editing.request import EditRequest


@dataclass(frozen=True)
class PreviousEdits:
    """The edits that a new one must not break.

    Attributes:
        requests: active edits, and those that are made together with the new one, oldest first.
        neurons: by block, the neurons that hold edits, also undone ones, because these may be redone.
    """

    requests: Sequence[EditRequest] = ()
    neurons: Mapping[int, Sequence[int]] = field(default_factory=dict)

    @property
    def prompts(self) -> list[str]:
        """All of their prompts, each once."""
        return list(dict.fromkeys(prompt for request in self.requests for prompt in request.prompts))
