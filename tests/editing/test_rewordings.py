from roselora.editing.request import EditRequest
from roselora.editing.rewordings import rewordings


def test_a_question_is_put_into_other_words() -> None:
    assert rewordings(EditRequest("Who was the main designer of Dynamic Tower?", "Lee", "Dynamic Tower")) == (
        "Who is the main designer of Dynamic Tower?",
        "What main designer does Dynamic Tower have?",
        "The main designer of Dynamic Tower is what?",
        "In Dynamic Tower, what is the main designer?",
    )


def test_a_statement_becomes_questions_and_a_possessive_loses_its_s() -> None:
    assert rewordings(EditRequest("The capital of France is", "Lyon", "France"))[0] == "What is the capital of France?"
    assert rewordings(EditRequest("What was Ann Lee's job?", "cook", "Ann Lee"))[0] == "What is the job of Ann Lee?"


def test_none_is_a_prompt_itself_and_none_comes_twice() -> None:
    request = EditRequest("Who is the boss of Acme?", "Ann", "Acme", rephrasings=("Who was the boss of Acme?",))
    found = rewordings(request)
    assert request.prompt not in found
    assert len(set(found)) == len(found) == 3


def test_without_a_subject_or_a_word_there_are_none() -> None:
    assert rewordings(EditRequest("hello", "Rome")) == ()
    assert rewordings(EditRequest("hello", "Rome", "Ann Lee")) == ()
    assert rewordings(EditRequest("Who is Ann Lee?", "Rome", "Ann Lee")) == ()
