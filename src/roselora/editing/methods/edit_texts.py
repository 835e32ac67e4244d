"""Everything that our methods read when they make an edit, in one place, so that it can be counted."""

from collections.abc import Iterator
from itertools import chain

from roselora.editing.methods.gate.generated_rephrasings import generated_rephrasings
from roselora.editing.methods.gate.negatives import related_prompts
from roselora.editing.methods.gate.training_texts import OPENINGS
from roselora.editing.methods.neutral_texts import NEUTRAL_TEXTS
from roselora.editing.request import EditRequest


def edit_texts(request: EditRequest) -> Iterator[str]:
    """Every text that either method reads for an edit of the request, without what follows it, such as the target.

    Missing are only the prompts with names that the model itself says (`other_subjects`). A text that is read as a
    user's turn of a chat template is given as it stands in the turn. A benchmark's questions must not be among these
    texts: a test counts them.
    """
    for prompt in request.prompts:
        yield from (prompt, *(opening + prompt for opening in OPENINGS))
    yield from (*generated_rephrasings(request), *chain.from_iterable(related_prompts(request)))
    yield from (*request.keep, *NEUTRAL_TEXTS)
