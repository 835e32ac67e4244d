"""Which of contradicting edits has the last word."""

from roselora.editing.records import StoredEdit
from roselora.editing.request import EditRequest
from roselora.editing.superseding import contradicts, rounds, superseded, supersedes


def stored(position: int, prompt: str, target: str, *rephrasings: str) -> StoredEdit:
    return StoredEdit(
        position=position,
        id=f"id{position}",
        request=EditRequest(prompt, target, None, rephrasings),
        delta_sha256="",
        provenance={},
        created="",
        active=True,
    )


def test_edits_contradict_where_they_share_a_prompt_and_not_the_target() -> None:
    assert contradicts(EditRequest("A is", "B"), EditRequest("A is", "C"))
    assert contradicts(EditRequest("A is", "B"), EditRequest("What is A?", "C", None, ("A is",)))
    assert not contradicts(EditRequest("A is", "B"), EditRequest("A is", "B"))
    assert not contradicts(EditRequest("A is", "B"), EditRequest("D is", "C"))


def test_the_latest_of_those_that_share_a_prompt_has_the_place_of_all_others() -> None:
    edits = [
        stored(0, "A is", "B"),
        stored(1, "D is", "E"),
        stored(2, "What is A?", "C", "A is"),
        stored(3, "A is", "F"),
        stored(4, "D is", "E"),
    ]
    assert superseded(edits) == {"id0": "id3", "id2": "id3"}
    assert superseded(edits[:3]) == {"id0": "id2"}
    assert supersedes(EditRequest("A is", "G"), edits) == ["id0", "id2", "id3"]


def test_an_edit_of_two_prompts_is_superseded_by_the_latest_that_took_either() -> None:
    edits = [stored(0, "A is", "B", "What is A?"), stored(1, "What is A?", "C"), stored(2, "A is", "D")]
    assert superseded(edits) == {"id0": "id2"}


def test_the_later_of_two_that_share_a_prompt_is_in_a_later_round() -> None:
    a, b, both = (
        EditRequest("A is", "B"),
        EditRequest("D is", "E"),
        EditRequest("What is A?", "C", None, ("A is", "D is")),
    )
    assert rounds([]) == []
    assert rounds([a, b]) == [[0, 1]]
    assert rounds([a, a, b, both, b]) == [[0, 2], [1], [3], [4]]
