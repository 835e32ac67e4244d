"""Everything that our methods read when they make an edit, in one place, so that it can be counted."""

from collections.abc import Iterator

from roselora.editing.methods.gate.generated_rephrasings import generated_rephrasings
from roselora.editing.methods.gate.negatives import negative_prompts
from roselora.editing.methods.gate.training_texts import OPENINGS
from roselora.editing.methods.neutral_texts import NEUTRAL_TEXTS
from roselora.editing.request import EditRequest


def edit_texts(request: EditRequest) -> Iterator[str]:
    """Every text that either method reads for an edit of the request, without what follows it, such as the target.

    A text that is read as a user's turn of a chat template is given as it stands in the turn. A benchmark's questions
    must not be among these texts: a test counts them. The names that a model itself writes in the subject's place, for
    an edit by factors, are not given: they are names that nobody has (`rose.rose_texts.altered_names`).
    """
    for prompt in request.prompts:
        yield from (opening + prompt for opening in OPENINGS)
    yield from generated_rephrasings(request)
    found = negative_prompts(request)
    yield from (*found.related, *found.renamed, *request.keep)
    yield from NEUTRAL_TEXTS
