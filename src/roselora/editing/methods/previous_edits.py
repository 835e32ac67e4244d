"""What the edits that are in a model ask of the next ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from roselora.editing.request import EditRequest


@dataclass(frozen=True)
class PreviousEdits:
    """What the edits before a new one ask of it.

    Attributes:
        requests: active edits and what is edited beside, oldest first, which shall stay.
        neurons: by block, the neurons that hold edits, undone ones too: these may be brought back.
    """

    requests: Sequence[EditRequest] = ()
    neurons: Mapping[int, Sequence[int]] = field(default_factory=dict)

    @property
    def prompts(self) -> list[str]:
        """All of their prompts, each once."""
        return list(dict.fromkeys(prompt for request in self.requests for prompt in request.prompts))
