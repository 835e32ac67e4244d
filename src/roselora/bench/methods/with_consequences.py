"""Gated neuron edits and RoseLoRA's, each fact with the consequences that the editor proposes."""

from collections.abc import Collection
from dataclasses import replace

from roselora.bench.methods import gate, rose
from roselora.bench.methods.edit_method import Applied, EditCall
from roselora.bench.methods.neuron_edits import edit_neurons
from roselora.editing.consequences.proposed_consequences import proposed_consequences
from roselora.editing.methods.edit_texts import edit_texts
from roselora.editing.methods.train_edit import Settings
from roselora.editing.request import EditRequest


def edit_with_consequences(call: EditCall[Settings]) -> Applied:
    """Edit as `Editor.edit` does with ``consequences=True``, but with no text that the benchmark asks.

    Raises:
        What `edit_neurons` raises.
    """
    groups = [replace(request, consequences=_consequences(call, request)) for request in call.requests]
    return replace(edit_neurons(replace(call, requests=groups)), requests=tuple(call.requests))


def _consequences(call: EditCall[Settings], request: EditRequest) -> tuple[EditRequest, ...]:
    proposed = proposed_consequences(call.model, call.tokenizer, request)
    withheld = set(map(_plain, call.withheld))
    left = (without_prompts(fact, withheld) for fact in proposed)
    return tuple(fact for fact in left if fact is not None and withheld.isdisjoint(map(_plain, edit_texts(fact))))


def without_prompts(fact: EditRequest, withheld: Collection[str]) -> EditRequest | None:
    """A fact without the prompts that are withheld, in whatever case and spaces; None if no prompt is left.

    Args:
        withheld: in lower case, with one space between words.

    >>> fact = EditRequest("The capital of Peru is", "Lima", rephrasings=["What is the capital of Peru?"])
    >>> without_prompts(fact, {"the capital of peru is"})
    EditRequest(prompt='What is the capital of Peru?', target='Lima', subject=None, rephrasings=(), keep=(), \
space=None, form='both', consequences=())
    """
    left = [prompt for prompt in fact.prompts if _plain(prompt) not in withheld]
    return replace(fact, prompt=left[0], rephrasings=tuple(left[1:])) if left else None


def _plain(prompt: str) -> str:
    return " ".join(prompt.split()).casefold()


GATE = replace(gate.METHOD, name="gate-consequences", edit=edit_with_consequences)
ROSE = replace(rose.METHOD, name="rose-consequences", edit=edit_with_consequences)
