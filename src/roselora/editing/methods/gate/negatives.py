"""Negatives: prompts close to an edited one at which the edit must be inactive."""

from dataclasses import dataclass

from roselora.editing.methods.gate.prompt_subjects import content_words, subject_of
from roselora.editing.methods.gate.relation_prompts import NAMES, RELATIONS
from roselora.editing.request import EditRequest

RELATED = RELATIONS[::2]
"""Half of the relations, some of each kind: with all of them an edit takes nearly twice as long, and gains little."""

OTHER_NAMES = NAMES[:8]
"""Likewise half of the names."""

OTHER_FORM_EVERY = 4
"""Every so many relations are asked in the other form too: questions where the prompt is a statement, or vice versa."""


@dataclass(frozen=True)
class NegativePrompts:
    """The negatives of a request.

    Attributes:
        related: the same subject in other relations.
        renamed: other subjects in the same relation.
    """

    related: tuple[str, ...]
    renamed: tuple[str, ...]


def negative_prompts(request: EditRequest) -> NegativePrompts:
    """The negatives of a request, made by templates from its subject.

    A relation that shares a content word with one of the request's prompts is left out, because it may be the edited
    one. If the request names no subject, it is guessed; if none can be guessed, there are no negatives.

    >>> found = negative_prompts(EditRequest("Where was Ann Lee born?", "Rome", "Ann Lee"))
    >>> found.renamed[0]
    'Where was the painter Clara Hoffmann born?'
    >>> found.related[-1]
    'As for Ann Lee, I am told that the composer is'
    """
    subject = subject_of(request)
    if subject is None:
        return NegativePrompts((), ())
    asked = set().union(*(content_words(prompt.replace(subject, " ")) for prompt in request.prompts))
    relations = [relation for relation in RELATED if not asked & content_words(relation.words)]
    forms = [(relation.statement, relation.question) for relation in relations]
    own = 1 if request.prompt.rstrip().endswith("?") else 0
    templates = [pair[own] for pair in forms] + [pair[1 - own] for pair in forms[::OTHER_FORM_EVERY]]
    names = [name for name in OTHER_NAMES if not content_words(name) & content_words(subject)]
    return NegativePrompts(
        tuple(template.format(subject) for template in templates),
        tuple(request.prompt.replace(subject, name) for name in names if subject in request.prompt),
    )
