"""Which of contradicting edits has the last word."""

from dataclasses import replace

from roselora.editing.contradictions import (
    contradicts,
    rounds,
    standing_requests,
    still_to_edit,
    superseded,
    supersedes,
)
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import StoredEdit


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


def test_the_latest_of_those_that_share_a_prompt_supersedes_all_others() -> None:
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


LYON, NICE = EditRequest("The capital of France is", "Lyon"), EditRequest("The capital of France is", "Nice")


def test_a_request_that_the_latest_edit_of_its_prompt_fulfils_is_skipped() -> None:
    lyon, nice = stored(1, LYON.prompt, LYON.target), stored(2, NICE.prompt, NICE.target)
    assert still_to_edit([LYON], [lyon]) == []
    assert still_to_edit([NICE], [lyon, nice]) == []
    assert still_to_edit([LYON], [lyon, nice]) == [LYON], "another has taken its place"
    assert still_to_edit([LYON], [nice]) == [LYON]


def test_each_fact_of_a_file_is_edited_once_and_the_last_one_wins() -> None:
    assert still_to_edit([LYON, LYON, LYON], []) == [LYON]
    assert still_to_edit([LYON, NICE, LYON], []) == [LYON, NICE, LYON]
    assert still_to_edit([NICE, LYON, LYON, NICE, NICE], [stored(1, LYON.prompt, LYON.target)]) == [NICE, LYON, NICE]


def test_a_fact_of_which_one_prompt_still_gives_another_answer_is_edited() -> None:
    more = EditRequest(LYON.prompt, "Lyon", None, ("France has its capital in",))
    assert still_to_edit([more], [stored(1, LYON.prompt, "Lyon")]) == [more]
    both = stored(1, LYON.prompt, "Lyon", "France has its capital in")
    assert still_to_edit([more, LYON], [both]) == []
    # The edit of both prompts is superseded as a whole when a later one takes one of them.
    assert still_to_edit([LYON], [both, stored(2, "France has its capital in", "Nice")]) == [LYON]


def test_a_target_with_another_space_is_another_target() -> None:
    spaced, close = replace(LYON, space=True), replace(LYON, space=False)
    edit = replace(stored(1, LYON.prompt, LYON.target), request=spaced)
    assert still_to_edit([spaced], [edit]) == []
    assert still_to_edit([close], [edit]) == [close]
    assert still_to_edit([spaced, close, close], []) == [spaced, close]
    assert supersedes(close, [edit]) == ["id1"]


def test_the_later_of_two_that_share_a_prompt_is_in_a_later_round() -> None:
    a, b, both = (
        EditRequest("A is", "B"),
        EditRequest("D is", "E"),
        EditRequest("What is A?", "C", None, ("A is", "D is")),
    )
    assert rounds([]) == []
    assert rounds([a, b]) == [[0, 1]]
    assert rounds([a, a, b, both, b]) == [[0, 2], [1], [3], [4]]


def group(position: int, request: EditRequest) -> StoredEdit:
    return replace(stored(position, request.prompt, request.target), request=request)


INVERSE = EditRequest("Lyon is the capital of", "France")
LYON_GROUP = replace(LYON, consequences=(INVERSE,))


def test_a_later_fact_overrules_a_consequence_and_not_the_fact_it_follows_from() -> None:
    edits = [group(1, LYON_GROUP), stored(2, INVERSE.prompt, "Rhone")]
    assert superseded(edits) == {}
    assert standing_requests(edits) == [LYON, edits[1].request]
    assert standing_requests(edits[:1]) == [LYON_GROUP]


def test_a_consequence_supersedes_an_earlier_fact() -> None:
    edits = [stored(1, INVERSE.prompt, "Rhone"), group(2, LYON_GROUP)]
    assert superseded(edits) == {"id1": "id2"}
    assert supersedes(LYON_GROUP, edits[:1]) == ["id1"]


def test_a_group_is_still_to_edit_until_all_of_it_is_there() -> None:
    assert still_to_edit([LYON_GROUP], [group(1, LYON_GROUP)]) == []
    assert still_to_edit([LYON_GROUP], [group(1, LYON)]) == [LYON_GROUP]
    left_out = [{"prompt": INVERSE.prompt, "target": INVERSE.target, "reason": "It was not learned."}]
    tried = replace(group(1, LYON), provenance={"left_out": left_out})
    assert still_to_edit([LYON_GROUP], [tried]) == [], "it could not be made"
    overruled = [group(1, LYON_GROUP), stored(2, INVERSE.prompt, "Rhone")]
    assert still_to_edit([LYON_GROUP], overruled) == [], "it was made, and another took its place"
    assert still_to_edit([LYON_GROUP, LYON_GROUP], []) == [LYON_GROUP]
    assert still_to_edit([INVERSE], [group(1, LYON_GROUP)]) == []


def test_two_groups_that_share_a_consequence_are_made_one_after_the_other() -> None:
    assert rounds([LYON_GROUP, replace(NICE, prompt="France is led from", consequences=(INVERSE,)), NICE]) == [
        [0],
        [1, 2],
    ]
