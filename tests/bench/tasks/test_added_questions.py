from roselora.bench.tasks.added_questions import SMALL_TALK, with_added_questions
from roselora.bench.tasks.edit_case import NEAREST, SAME_SUBJECT, EditCase, Probe

POOL = [
    EditCase("made/0", "Who is the mother of Ada Plum?", "Eve", "Ada Plum"),
    EditCase("made/1", "What is the name of the mother of Bo Pear?", "Eve", "Bo Pear"),
    EditCase("made/2", "Who was the mother of the queen Ada Plum?", "Eve", "queen"),
    EditCase("made/3", "Which mother had Cy Fig?", "Eve", "Cy Fig"),
    EditCase("made/4", "In which mother tongue is the Nile?", "Eve", "Nile"),
    EditCase("made/5", "Where is Ur?", "Iraq", "Ur"),
    EditCase("made/6", "Ada Plum: what mother, what name?", "Eve"),
]


def nearest(case: EditCase, pool: list[EditCase]) -> str | None:
    (found,) = with_added_questions([case], pool)
    return found.locality[NEAREST][0].prompt if NEAREST in found.locality else None


def test_the_nearest_question_shares_most_content_words_and_is_of_another_subject() -> None:
    # made/2 shares ada, plum, mother, but contains the subject; made/6 names none; of the others each shares "mother".
    assert nearest(POOL[0], POOL) == POOL[1].prompt
    assert nearest(POOL[0], POOL[::-1]) == POOL[4].prompt, "the first of several"
    # made/1 asks for a name and a mother: made/6 would share both, made/0 and made/3 one.
    assert nearest(POOL[1], POOL) == POOL[0].prompt
    assert nearest(POOL[1], [*POOL, EditCase("made/7", "The name of the MOTHER, of Dan?", "Eve", "Dan")]) == (
        "The name of the MOTHER, of Dan?"
    )


def test_function_words_make_no_question_near_and_a_case_without_subject_has_none() -> None:
    assert nearest(POOL[5], POOL) is None  # where, is
    assert nearest(POOL[6], POOL) is None


def test_a_case_without_questions_on_other_relations_of_its_subject_gets_ours() -> None:
    own = {"Relation_Specificity": (Probe("The gender of Ada Plum is", ("female",)),)}
    with_own = EditCase("made/0", "Who is the mother of Ada Plum?", "Eve", "Ada Plum", locality=own)
    first, second, third = with_added_questions([with_own, POOL[0], POOL[6]], [])
    assert first.locality == own
    assert [probe.prompt for probe in second.locality[SAME_SUBJECT]] == [
        "Where can I read more about Ada Plum?",
        "Who has written a book about Ada Plum?",
        "When was Ada Plum last in the news?",
        "What do people like about Ada Plum?",
    ]
    assert third.locality == {}


def test_each_case_is_asked_behind_the_same_sentence_every_time_and_cases_behind_different_ones() -> None:
    first, again = (with_added_questions(POOL, [])[0].behind_sentence for _ in range(2))
    assert first == again
    sentence, _, prompt = str(first).partition(" Who is")
    assert sentence in SMALL_TALK
    assert prompt == " the mother of Ada Plum?"
    cases = [EditCase(f"made/{number}", "Snow is", "red") for number in range(100)]
    behind = [case.behind_sentence for case in with_added_questions(cases, [])]
    assert set(behind) == {f"{sentence} Snow is" for sentence in SMALL_TALK}
