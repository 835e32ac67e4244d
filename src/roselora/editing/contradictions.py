"""Contradicting edits: of two that share a prompt but not the target, the newer one wins.

Targets also differ if one is to follow the prompt after a space and the other is not.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import StoredEdit
from roselora.editing.store.provenance import read_provenance


def contradicts(newer: EditRequest, older: EditRequest) -> bool:
    """Whether a newer request, or a consequence of it, gives a prompt of the older one another target.

    What follows from the older one does not count: if it is contradicted, the fact itself still stands.

    >>> contradicts(EditRequest("The capital of France is", "Lyon"), EditRequest("The capital of France is", "Nice"))
    True
    """
    return any(
        not _same_target(fact, older) and not set(fact.prompts).isdisjoint(older.prompts) for fact in newer.facts
    )


def supersedes(request: EditRequest, active: Sequence[StoredEdit]) -> list[str]:
    """The ids of the active edits that a new request supersedes."""
    return [edit.id for edit in active if contradicts(request, edit.request)]


def superseded(active: Sequence[StoredEdit]) -> dict[str, str]:
    """The ids of the active edits that later ones supersede, each with the id of the latest that does.

    Args:
        active: in commit order.
    """
    by_prompt: dict[str, list[StoredEdit]] = {}
    for edit in active:
        for prompt in set(edit.request.all_prompts):
            by_prompt.setdefault(prompt, []).append(edit)
    latest: dict[str, StoredEdit] = {}
    for sharing in by_prompt.values():
        newest = sharing[-1]
        for edit in sharing[:-1]:
            known = latest.get(edit.id)  # found already by another prompt of the edit
            if contradicts(newest.request, edit.request) and (known is None or known.position < newest.position):
                latest[edit.id] = newest
    return {id: edit.id for id, edit in latest.items()}


def standing_requests(active: Sequence[StoredEdit]) -> list[EditRequest]:
    """Each edit's request without the consequences that a later one gives another target.

    Args:
        active: in commit order.
    """
    latest = _latest_facts([edit.request for edit in active])

    def stands(fact: EditRequest) -> bool:
        return all(_same_target(latest[prompt], fact) for prompt in fact.prompts)

    return [
        replace(edit.request, consequences=tuple(fact for fact in edit.request.consequences if stands(fact)))
        for edit in active
    ]


def still_to_edit(requests: Sequence[EditRequest], active: Sequence[StoredEdit]) -> list[EditRequest]:
    """The requests that neither an active edit nor a request before them has fulfilled already.

    A request is fulfilled if the latest edit or request of each of its prompts has the same target and is not
    superseded itself; and so must be its consequences, apart from those that were made with it once, or left out
    because they could not be made.

    Args:
        active: in commit order.
    """
    latest = _latest_facts([edit.request for edit in active])
    tried = {each for edit in active for each in _tried(edit)}
    wanted = []
    for request in requests:
        fact, *implied = request.facts
        missing = [fact, *(each for each in implied if (request.prompt, each.prompt, each.target) not in tried)]
        if not all(_fulfils(latest.get(prompt), each, latest) for each in missing for prompt in each.prompts):
            wanted.append(request)
            latest.update(_latest_facts([request]))
            tried |= {(request.prompt, each.prompt, each.target) for each in implied}
    return wanted


def rounds(requests: Sequence[EditRequest]) -> list[list[int]]:
    """The requests' indices in rounds, such that no two of a round share a prompt and the later of two comes later.

    So the earlier one is in the weights when the later one is trained.
    """
    found: list[list[int]] = []
    latest: dict[str, int] = {}  # the last round of each prompt
    for number, request in enumerate(requests):
        own = 1 + max(latest.get(prompt, -1) for prompt in request.all_prompts)
        latest.update(dict.fromkeys(request.all_prompts, own))
        if own == len(found):
            found.append([])
        found[own].append(number)
    return found


def _tried(edit: StoredEdit) -> Iterator[tuple[str, str, str]]:
    """The prompt of an edit, with prompt and target of each consequence that was made with it, or left out."""
    for fact in (*edit.request.consequences, *(read_provenance(edit.provenance).left_out or ())):
        yield edit.request.prompt, fact.prompt, fact.target


def _latest_facts(requests: Iterable[EditRequest]) -> dict[str, EditRequest]:
    """By prompt, the fact of the last request that has it."""
    return {prompt: fact for request in requests for fact in request.facts for prompt in fact.prompts}


def _same_target(one: EditRequest, other: EditRequest) -> bool:
    return (one.target, one.space) == (other.target, other.space)


def _fulfils(made: EditRequest | None, request: EditRequest, latest: Mapping[str, EditRequest]) -> bool:
    """Whether a request that was made has the wanted target, and no later one contradicts it at any of its prompts."""
    return (
        made is not None
        and _same_target(made, request)
        and all(_same_target(latest[prompt], made) for prompt in made.prompts)
    )
