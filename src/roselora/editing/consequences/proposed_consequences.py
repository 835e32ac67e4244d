"""What follows from a fact, proposed from its words and from what the model itself knows.

Three kinds: the same of the subject's other names; the inverse, where it has one answer ("Lyon is the capital of"); and
one step further, whose second half the model knows ("What is the country of the capital of France?"). The last two are
found in English prompts alone.
"""

from typing import NamedTuple

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.answer_match import matches
from roselora.editing.consequences.known_names import known_names
from roselora.editing.consequences.other_names import shorter_names
from roselora.editing.consequences.relations import attributes_of, inverses, relation_of
from roselora.editing.methods.gate.prompt_subjects import subject_of
from roselora.editing.request import EditRequest


def proposed_consequences(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, request: EditRequest
) -> tuple[EditRequest, ...]:
    """What follows from a fact; each in its form, and no prompt twice.

    Args:
        model: as it is without the fact: what it knows decides on the steps further.

    Example:
        >>> fact = EditRequest("What is the capital of France?", "Lyon")
        >>> for each in proposed_consequences(model, tokenizer, fact):  # doctest: +SKIP
        ...     print(each.prompt, "->", each.target)
        Lyon is the capital of -> France
        What is the continent of the capital of France? -> Europe
    """
    subject = subject_of(request)
    if subject is None or request.prompt.count(subject) != 1:
        return ()
    target = request.target.strip(" .,;:!?")  # as a name; it may be written as a sentence's end
    relation = relation_of(request.prompt, subject)
    attributes = attributes_of(relation) if relation is not None else ()
    phrases = [f"another name of {subject}", *(f"the {attribute} of {target}" for attribute in attributes)]
    other, *answers = known_names(model, tokenizer, phrases)
    names = list(shorter_names(subject, request.prompt))
    if other is not None and not matches(other, [subject, request.target]):
        back = known_names(model, tokenizer, [f"another name of {other}"])[0]
        names += [other] if back is not None and matches(back, [subject]) else []
    found = [_Implied(name, request.target, (request.prompt.replace(subject, name),)) for name in names]
    if relation is not None:
        if not matches(target, [subject]):
            found.append(_Implied(target, subject, tuple(inverses(relation, target))))
        asked = relation.format(subject)
        said = {subject, target}  # what leads back to these says nothing new
        for attribute, answer in zip(attributes, answers, strict=True):
            if answer is not None and not matches(answer, said):
                said.add(answer)
                prompts = (f"What is the {attribute} of {asked}?", f"The {attribute} of {asked} is")
                found.append(_Implied(subject, answer, prompts))
    known = {*request.prompts, *request.keep}
    new = [each for each in dict.fromkeys(found) if each.prompts and known.isdisjoint(each.prompts)]
    return tuple(
        EditRequest(each.prompts[0], each.target, each.subject, each.prompts[1:], form=request.form) for each in new
    )


class _Implied(NamedTuple):
    """A consequence: its subject, its target and the prompts that ask for it."""

    subject: str
    target: str
    prompts: tuple[str, ...]
