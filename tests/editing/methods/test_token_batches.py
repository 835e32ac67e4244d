from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from roselora.editing.methods.token_batches import (
    IGNORED,
    answer_rows,
    continuation_row,
    split_at_answer,
    text_row,
    token_batch,
)
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError


def test_labels_are_the_target_and_eos_at_the_positions_that_predict_them(tiny_tokenizer: Any) -> None:
    batch = token_batch(answer_rows(tiny_tokenizer, EditRequest("ab", "xy", rephrasings=("abcd",))))
    eos, space = tiny_tokenizer.eos_token_id, tiny_tokenizer(" ").input_ids[0]
    x, y = tiny_tokenizer("xy").input_ids
    for row, prompt in enumerate(["ab", "abcd"]):
        n = len(prompt)
        assert batch.input_ids[row, : n + 4].tolist() == [*tiny_tokenizer(prompt).input_ids, space, x, y, eos]
        assert batch.labels[row].tolist()[: n + 4] == [IGNORED] * (n - 1) + [space, x, y, eos, IGNORED]
        assert int(batch.attention_mask[row].sum()) == n + 4
    assert batch.labels[0, -2:].tolist() == [IGNORED, IGNORED]


def test_a_prompt_that_ends_in_space_gets_no_second_space(tiny_tokenizer: Any) -> None:
    _, target = split_at_answer(tiny_tokenizer, "Answer:\n", "xy")
    assert target == tiny_tokenizer("xy").input_ids


@pytest.mark.demo
def test_a_token_across_the_border_of_prompt_and_target_is_split_there(demo: Any) -> None:
    prompt, target = split_at_answer(demo.tokenizer, "The answer is  ", "Lyon")
    assert prompt == demo.tokenizer("The answer is  ").input_ids
    assert demo.tokenizer.decode(prompt + target) == "The answer is  Lyon"


def test_a_batch_holds_every_row_and_its_labels(tiny_tokenizer: Any) -> None:
    (answer,) = answer_rows(tiny_tokenizer, EditRequest("a", "b"))
    text = text_row(tiny_tokenizer("longer text").input_ids)
    joined = token_batch([answer, text])
    assert joined.input_ids.shape == (2, 11)
    assert joined.input_ids[0, :4].tolist() == answer.ids
    assert joined.labels[0, :4].tolist() == answer.labels
    assert joined.labels[0, 4:].unique().tolist() == [IGNORED]
    assert joined.input_ids[1].tolist() == text.ids
    assert joined.attention_mask.sum(1).tolist() == [4, 11]


def test_a_tokenizer_without_end_of_sequence_is_refused(tiny_tokenizer: Any) -> None:
    class NoEnd:
        eos_token_id = None

    with pytest.raises(ConfigError, match="end-of-sequence"):
        answer_rows(NoEnd(), EditRequest("a", "b"))  # type: ignore[arg-type]


def test_a_continuation_has_labels_from_the_last_position_of_its_prompt_on() -> None:
    assert continuation_row([5, 6, 7], [8, 9]).labels == [IGNORED, IGNORED, 8, 9, 9]
    assert continuation_row([5, 6], []).labels == [IGNORED, 6]
    assert text_row([5, 6, 7]).labels == [6, 7, 7]


def test_a_target_without_a_space_before_it_is_trained_so_by_tokenizers_that_put_one_before_every_text() -> None:
    pieces = ["<unk>", "</s>", "\u2581", "\u25812", "+", "2", "=", "2=", "=4", "4", "\u25814", "\n"]
    tokenizer = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, [("=", "4")], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")
    prompt, answer = split_at_answer(fast, "2+2=", "4")
    assert fast.convert_ids_to_tokens(prompt)[-1] == "="
    assert fast.convert_ids_to_tokens(answer) == ["4"]
