from functools import partial

import pytest

from roselora.bench.tasks.answer_extraction import (
    after_trigger,
    close,
    first_choice,
    first_letter,
    last_number,
    of_response,
    same,
    strict_letter,
)

ANSWERS = ("answer1", "answer2", "answer3", "answer4", "answer5")


@pytest.mark.parametrize(
    ("choices", "said", "answer"),
    [
        (("true", "false"), "the correct answer is false", "false"),
        (("true", "false"), "That is untrue.", "true"),
        (("true", "false"), "True", ""),
        (("solution1", "solution2"), "not solution1 but solution2", "solution1"),
        (ANSWERS, "the correct answer is answer3", "answer3"),
        (ANSWERS, "answer10", "answer1"),
        (ANSWERS, "answer6 or answer5", "answer5"),
        (ANSWERS, "Answer1", ""),
        (ANSWERS, "answer 1", ""),
        (("ending1", "ending2", "ending3", "ending4"), "\n ending4.", "ending4"),
        (("option1", "option2"), "", ""),
    ],
)
def test_the_first_choice_anywhere_is_the_answer(choices: tuple[str, ...], said: str, answer: str) -> None:
    assert first_choice(choices, said) == answer


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("the correct answer is answer1", "answer1"),
        ("the correct answer is  answer1 \n", "answer1"),
        ("Well, the correct answer is answer1.", "answer1."),
        ("the correct answer is answer1\nthe correct answer is answer2", "answer1\nthe correct answer is answer2"),
        ("answer1", ""),
        ("The correct answer is answer1", ""),
        ("the correct answer is", ""),
    ],
)
def test_after_the_trigger_all_is_the_answer(said: str, answer: str) -> None:
    assert after_trigger(said) == answer


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("3 + 4 = 7", 7),
        ("The answer is -3.5", -3.5),
        ("1,234", 1234),
        ("3,4", 34),
        ("It costs $5.", 5),
        ("The answer is 72.\n", 72),
        ("7-2", -2),
        ("1/2", 2),
        (".5", 5),
        ("1e3", 3),
        ("50%", 50),
        ("1.2.3", 3),
        ("- 4", 4),
        ("12 apples, as asked in part 2", 2),
    ],
)
def test_the_last_number_is_the_answer(said: str, answer: float) -> None:
    assert float(last_number(said)) == answer


@pytest.mark.parametrize("said", ["", "seven", "$.", "-"])
def test_without_a_number_there_is_no_answer_and_it_is_wrong(said: str) -> None:
    assert last_number(said) == ""
    assert not close("", "0.0")


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [("72.", "72.0", True), ("1.8343", "1.8333333333333335", True), ("1.835", "1.8333333333333335", False)],
)
def test_a_number_within_a_thousandth_is_right(answer: str, gold: str, right: bool) -> None:
    assert close(answer, gold) is right


@pytest.mark.parametrize(
    ("said", "answer", "strict"),
    [
        ("The answer is (C).", "C", "C"),
        ("D", "D", "D"),
        (" (e.g. 5) \n B.", "B", ""),
        ("A man runs 5 miles, so the answer is (C)", "A", "C"),
        ("Because 5 is odd: answer: D", "B", "D"),
        ("E) 12", "E", "E"),
        ("Each has (A) or (B)", "E", "B"),
        ("It is option B", "B", "B"),
        ("Answer is D", "A", "D"),
        ("the answer is a man", "", ""),
        ("5 miles", "", ""),
        ("", "", ""),
    ],
)
def test_a_letter_is_the_first_anywhere_or_strictly_the_last_that_is_marked(
    said: str, answer: str, strict: str
) -> None:
    assert first_letter(said) == answer
    assert strict_letter(said) == strict


def test_a_response_mark_that_the_model_writes_ends_its_answer() -> None:
    assert of_response(last_number, "It is 5.\n### Response:\nIt is 6.") == "5."
    assert of_response(partial(first_choice, ANSWERS), "### Response: answer1") == ""


def test_an_exact_answer_is_the_same_but_for_outer_blanks() -> None:
    assert same(" answer1\n", "answer1")
    assert not same("answer1.", "answer1")
    assert not same("Answer1", "answer1")
