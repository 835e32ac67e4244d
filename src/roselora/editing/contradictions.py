"""Contradicting edits: of two that share a prompt but not the target, the newer one wins.

Targets also differ if one is to follow the prompt after a space and the other is not.
"""

from collections.abc import Mapping, Sequence

from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import StoredEdit


def contradicts(newer: EditRequest, older: EditRequest) -> bool:
    """Whether two requests share a prompt and not the target.

    >>> contradicts(EditRequest("The capital of France is", "Lyon"), EditRequest("The capital of France is", "Nice"))
    True
    """
    return not _same_target(newer, older) and not set(newer.prompts).isdisjoint(older.prompts)


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
        for prompt in set(edit.request.prompts):
            by_prompt.setdefault(prompt, []).append(edit)
    latest: dict[str, StoredEdit] = {}
    for sharing in by_prompt.values():
        newest = sharing[-1]
        for edit in sharing[:-1]:
            known = latest.get(edit.id)  # found already by another prompt of the edit
            if contradicts(newest.request, edit.request) and (known is None or known.position < newest.position):
                latest[edit.id] = newest
    return {id: edit.id for id, edit in latest.items()}


def still_to_edit(requests: Sequence[EditRequest], active: Sequence[StoredEdit]) -> list[EditRequest]:
    """The requests that neither an active edit nor a request before them has fulfilled already.

    A request is fulfilled if the latest edit or request of each of its prompts has the same target and is not
    superseded itself.

    Args:
        active: in commit order.
    """
    latest: dict[str, EditRequest] = {}  # by prompt
    for edit in active:
        latest.update(dict.fromkeys(edit.request.prompts, edit.request))
    wanted = []
    for request in requests:
        if not all(_fulfils(latest.get(prompt), request, latest) for prompt in request.prompts):
            wanted.append(request)
            latest.update(dict.fromkeys(request.prompts, request))
    return wanted


def rounds(requests: Sequence[EditRequest]) -> list[list[int]]:
    """The requests' indices in rounds, such that no two of a round share a prompt and the later of two comes later.

    So the earlier one is in the weights when the later one is trained.
    """
    found: list[list[int]] = []
    latest: dict[str, int] = {}  # the last round of each prompt
    for number, request in enumerate(requests):
        own = 1 + max(latest.get(prompt, -1) for prompt in request.prompts)
        latest.update(dict.fromkeys(request.prompts, own))
        if own == len(found):
            found.append([])
        found[own].append(number)
    return found


def _same_target(one: EditRequest, other: EditRequest) -> bool:
    return (one.target, one.space) == (other.target, other.space)


def _fulfils(made: EditRequest | None, request: EditRequest, latest: Mapping[str, EditRequest]) -> bool:
    """Whether a request that was made has the wanted target, and no later one contradicts it at any of its prompts."""
    return (
        made is not None
        and _same_target(made, request)
        and all(_same_target(latest[prompt], made) for prompt in made.prompts)
    )
