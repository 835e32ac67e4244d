"""Contradicting edits: of two that ask for one prompt with different targets, the newest wins.

Targets are different too where one is asked for with a space before it, and the other is not.
"""

from collections.abc import Mapping, Sequence

from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import StoredEdit


def contradicts(newer: EditRequest, older: EditRequest) -> bool:
    """Whether they share a prompt, and not the target."""
    return not _alike(newer, older) and not set(newer.prompts).isdisjoint(older.prompts)


def _alike(one: EditRequest, other: EditRequest) -> bool:
    """Whether they want the same target, in the same way."""
    return (one.target, one.space) == (other.target, other.space)


def supersedes(request: EditRequest, active: Sequence[StoredEdit]) -> list[str]:
    """The ids of the active edits whose place a new request takes."""
    return [edit.id for edit in active if contradicts(request, edit.request)]


def superseded(active: Sequence[StoredEdit]) -> dict[str, str]:
    """From the id of each active edit whose place a later one has taken to that of the latest that has.

    Args:
        active: in commit order.
    """
    by_prompt: dict[str, list[StoredEdit]] = {}
    for edit in active:
        for prompt in set(edit.request.prompts):
            by_prompt.setdefault(prompt, []).append(edit)
    found: dict[str, StoredEdit] = {}
    for sharing in by_prompt.values():
        newest = sharing[-1]
        for edit in sharing[:-1]:
            known = found.get(edit.id)
            if contradicts(newest.request, edit.request) and (known is None or known.position < newest.position):
                found[edit.id] = newest
    return {id: edit.id for id, edit in found.items()}


def not_yet(requests: Sequence[EditRequest], active: Sequence[StoredEdit]) -> list[EditRequest]:
    """The requests that ask for what is not so already, by the active edits or by a request before them.

    It is so already if for each prompt the last word was the same target, and nothing has since taken the place of what
    said so.

    Args:
        active: in commit order.
    """
    last: dict[str, EditRequest] = {}
    wanted = []
    for request, is_new in [*((edit.request, False) for edit in active), *((request, True) for request in requests)]:
        words = [last.get(prompt) for prompt in request.prompts]
        if is_new:
            if all(word is not None and _alike(word, request) and _stands(word, last) for word in words):
                continue
            wanted.append(request)
        last.update(dict.fromkeys(request.prompts, request))
    return wanted


def _stands(request: EditRequest, last: Mapping[str, EditRequest]) -> bool:
    return all(_alike(last[prompt], request) for prompt in request.prompts)


def rounds(requests: Sequence[EditRequest]) -> list[list[int]]:
    """The requests' numbers in rounds, in none of which two share a prompt: the later of two is in a later round.

    So the earlier one is in the weights when the later one is trained.
    """
    found: list[list[int]] = []
    latest: dict[str, int] = {}
    for number, request in enumerate(requests):
        own = 1 + max(latest.get(prompt, -1) for prompt in request.prompts)
        latest.update(dict.fromkeys(request.prompts, own))
        if own == len(found):
            found.append([])
        found[own].append(number)
    return found
