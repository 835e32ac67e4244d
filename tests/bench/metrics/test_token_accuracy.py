import pytest

from roselora.bench.metrics.token_accuracy import answer_row, share_equal
from roselora.models.teacher_forcing import NO_TOKEN


def test_an_answer_is_what_follows_as_many_tokens_as_the_prompt_has(tiny_tokenizer):
    row, answer = answer_row(tiny_tokenizer, "ab", "cd")
    space, c, d = tiny_tokenizer(" cd").input_ids
    assert answer == [space, c, d]
    assert row.ids == [*tiny_tokenizer("ab").input_ids, space, c], "after the last token nothing is asked"
    assert row.start == 1, "the last token of the prompt predicts the answer's first"


@pytest.mark.parametrize("answer", ["", " "])
def test_blank_answers_are_skipped(tiny_tokenizer, answer):
    assert answer_row(tiny_tokenizer, "ab", answer) is None


def test_the_score_is_the_share_of_equal_tokens():
    assert share_equal([5, 6, 7, 8], [5, 0, 7, 0]) == 0.5
    assert share_equal([NO_TOKEN, 6], [NO_TOKEN, 6]) == 0.5, "NaN equals nothing, not even NaN"
    with pytest.raises(ValueError, match="no tokens"):
        share_equal([], [])
