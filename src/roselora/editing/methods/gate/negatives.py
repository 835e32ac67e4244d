"""Negatives on the edited subject: prompts that ask for something else of it."""

from collections.abc import Sequence

from roselora.editing.methods.gate.prompt_subjects import content_words, subject_of
from roselora.editing.methods.gate.relation_prompts import ODD_RELATIONS, RELATIONS, Relation
from roselora.editing.request import EditRequest


def related_prompts(request: EditRequest) -> list[list[str]]:
    """The request's subject in other relations: in those that encyclopedias tell of, and in odd ones.

    A relation that shares a content word with one of the request's prompts is left out, because it may be the edited
    one. If the request names no subject, it is guessed; if none can be guessed, there are no such prompts.

    >>> usual, odd = related_prompts(EditRequest("Where was Ann Lee born?", "Rome", "Ann Lee"))
    >>> usual[-1]
    'Do you know what comes after Ann Lee?'
    """
    subject = subject_of(request)
    if subject is None:
        return [[], []]
    asked = set().union(*(content_words(prompt.replace(subject, " ")) for prompt in request.prompts))

    def of(relations: Sequence[Relation]) -> list[str]:
        return [each.prompt.format(subject) for each in relations if not asked & content_words(each.words)]

    return [of(RELATIONS), of(ODD_RELATIONS)]
