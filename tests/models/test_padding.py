import torch

from roselora.models.padding import pad_rows, padded_inputs, positions


def test_rows_are_filled_up_on_the_chosen_side():
    assert pad_rows([[1], [2, 3]], fill=-100).tolist() == [[1, -100], [2, 3]]
    assert pad_rows([[1], [2, 3]], side="left", fill=9).tolist() == [[9, 1], [2, 3]]
    assert pad_rows([[], []]).shape == (2, 0)


def test_the_mask_marks_the_tokens_and_not_the_padding_even_where_both_have_one_id():
    inputs = padded_inputs([[7, 0], [0, 5, 0]], side="left")
    assert inputs["input_ids"].tolist() == [[0, 7, 0], [0, 5, 0]]
    assert inputs["attention_mask"].tolist() == [[0, 1, 1], [1, 1, 1]]


def test_each_token_has_the_position_that_it_has_in_its_row_alone():
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    assert positions(mask).tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]
