"""Negatives on the edited subject: prompts that ask for something else of it."""

from roselora.editing.methods.gate.prompt_subjects import content_words, subject_of
from roselora.editing.methods.gate.relation_prompts import RELATIONS
from roselora.editing.request import EditRequest

RELATED = RELATIONS[::2]
"""Half of the relations, some of each kind: with all of them an edit takes nearly twice as long, and gains little."""


def related_prompts(request: EditRequest) -> list[str]:
    """The request's subject in other relations.

    A relation that shares a content word with one of the request's prompts is left out, because it may be the edited
    one. If the request names no subject, it is guessed; if none can be guessed, there are no such prompts.

    >>> related_prompts(EditRequest("Where was Ann Lee born?", "Rome", "Ann Lee"))[-1]
    'Ann Lee, material:'
    """
    subject = subject_of(request)
    if subject is None:
        return []
    asked = set().union(*(content_words(prompt.replace(subject, " ")) for prompt in request.prompts))
    relations = [relation for relation in RELATED if not asked & content_words(relation.words)]
    return [
        *(relation.question.format(subject) for relation in relations),
        *(relation.statement.format(subject) for relation in relations),
    ]
