from roselora.editing.methods.gate.generated_rephrasings import generated_rephrasings
from roselora.editing.request import EditRequest


def test_a_question_is_put_into_other_words() -> None:
    request = EditRequest("Who was the main designer of Dynamic Tower?", "Lee", "Dynamic Tower")
    assert generated_rephrasings(request) == (
        "Could you tell me who the main designer of Dynamic Tower is?",
        "May I ask you about Dynamic Tower: who is the main designer?",
        "As for Dynamic Tower, do you know the main designer?",
        "Dynamic Tower: main designer?",
    )


def test_a_statement_becomes_questions_and_a_possessive_loses_its_s() -> None:
    france = EditRequest("The capital of France is", "Lyon", "France")
    assert generated_rephrasings(france)[0] == "Could you tell me what the capital of France is?"
    job = EditRequest("What was Ann Lee's job?", "cook", "Ann Lee")
    assert generated_rephrasings(job)[0] == "Could you tell me what the job of Ann Lee is?"


def test_none_is_a_prompt_itself_and_none_comes_twice() -> None:
    prompts = ("Who is the boss of Acme?", "Acme: boss?", "Who was the boss of Acme?")
    found = generated_rephrasings(EditRequest(prompts[0], "Ann", "Acme", rephrasings=prompts[1:]))
    assert len(set(found)) == len(found)
    assert set(prompts).isdisjoint(found)
    assert "As for Acme, do you know the boss?" in found


def test_without_a_subject_or_a_word_there_are_none() -> None:
    assert generated_rephrasings(EditRequest("hello", "Rome")) == ()
    assert generated_rephrasings(EditRequest("hello", "Rome", "Ann Lee")) == ()
    assert generated_rephrasings(EditRequest("Who is Ann Lee?", "Rome", "Ann Lee")) == ()
