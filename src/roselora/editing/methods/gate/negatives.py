"""Prompts near an edit's own at which it must stay silent: its subject asked something else, others asked the same."""

from dataclasses import dataclass

from roselora.editing.methods.gate.prompt_subjects import subject_of, telling_words
from roselora.editing.methods.gate.relation_prompts import NAMES, RELATIONS
from roselora.editing.request import EditRequest

RELATED = RELATIONS[::2]
"""Half of the relations, of every kind some: with all of them an edit takes nearly twice as long, and gains little."""

OTHERS = NAMES[:8]
"""Likewise of the names."""

FEW = 4
"""Of the relations' other form, questions where the prompt is a statement and the reverse, every so many are taken."""


@dataclass(frozen=True)
class NegativePrompts:
    """Prompts that are close to an edit's own and are not its own.

    Attributes:
        related: the same subject, asked something else.
        renamed: another subject, asked the same.
    """

    related: tuple[str, ...]
    renamed: tuple[str, ...]


def negative_prompts(request: EditRequest) -> NegativePrompts:
    """The contrasts of a request.

    A relation that shares a word that means something with one of the request's prompts is left out, for it may be the
    edit's own. Where the request names no subject, it is guessed; where none can be guessed, there are no contrasts.
    """
    subject = subject_of(request)
    if subject is None:
        return NegativePrompts((), ())
    asked = set().union(*(telling_words(prompt.replace(subject, " ")) for prompt in request.prompts))
    others = [relation for relation in RELATED if not asked & telling_words(relation.words)]
    forms = [(relation.statement, relation.question) for relation in others]
    own = 1 if request.prompt.rstrip().endswith("?") else 0
    templates = [pair[own] for pair in forms] + [pair[1 - own] for pair in forms[::FEW]]
    names = [name for name in OTHERS if not telling_words(name) & telling_words(subject)]
    return NegativePrompts(
        tuple(template.format(subject) for template in templates),
        tuple(request.prompt.replace(subject, name) for name in names if subject in request.prompt),
    )
