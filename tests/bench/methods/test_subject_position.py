"""The subject's last token is found where a reader finds it, whatever the tokenizer does to spaces."""

import copy

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from roselora.bench.methods.subject_position import subject_end


@pytest.fixture(scope="module")
def spaced() -> PreTrainedTokenizerFast:
    """Whole words, each with the space before it, as SentencePiece makes them."""
    words = ["▁The", "▁capital", "▁of", "▁New", "▁York", "▁is", "▁new", "▁and", "[UNK]"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


def test_every_byte_a_token(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    text = "The capital of France is"
    assert subject_end(tiny_tokenizer, text, "France") == text.index("France") + 5
    assert subject_end(tiny_tokenizer, text, "FRANCE") == text.index("France") + 5
    assert subject_end(tiny_tokenizer, text, " France ") == text.index("France") + 5


def test_tokens_that_hold_their_space(spaced: PreTrainedTokenizerFast) -> None:
    assert subject_end(spaced, "The capital of New York is", "New York") == 4
    assert subject_end(spaced, "The capital of New York is", "York is") == 5
    assert subject_end(spaced, "New York is", "New") == 0


def test_of_two_places_the_later_counts_and_a_whole_word_before_a_part(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    assert subject_end(tiny_tokenizer, "Art and Art is", "Art") == 10
    assert subject_end(tiny_tokenizer, "Art of Arthur is", "Art") == 2
    assert subject_end(tiny_tokenizer, "An Arthur is", "Art") == 5
    assert subject_end(tiny_tokenizer, "Art and art is", "Art") == 2


def test_a_search_that_starts_behind_a_prefix_does_not_look_into_it(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    assert subject_end(tiny_tokenizer, "Rome fell. Rome is", "Rome", start=11) == 14
    assert subject_end(tiny_tokenizer, "Rome fell. It is", "Rome", start=11) == 15


@pytest.mark.parametrize("subject", [None, "", "  ", "Spain"])
def test_without_a_subject_in_the_text_it_is_the_last_token(
    tiny_tokenizer: PreTrainedTokenizerFast, subject: str | None
) -> None:
    text = "The capital of France is"
    assert subject_end(tiny_tokenizer, text, subject) == len(text) - 1


def test_an_end_of_sequence_behind_the_text_is_not_its_last_token(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    appending = copy.deepcopy(tiny_tokenizer)
    end = [("<|im_end|>", appending.eos_token_id)]
    appending.backend_tokenizer.post_processor = processors.TemplateProcessing("$A <|im_end|>", special_tokens=end)
    assert subject_end(appending, "Rome is", None) == 6
    assert subject_end(appending, "Rome is", "Rome") == 3


def test_a_character_of_several_tokens_ends_at_its_last(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tiny_tokenizer("Orlé is").input_ids) == 8
    assert subject_end(tiny_tokenizer, "Orlé is", "Orlé") == 4


def test_a_text_that_opens_as_chat_templates_do_has_its_beginning_counted_once(
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    opening = copy.deepcopy(tiny_tokenizer)
    start = [("<|im_start|>", opening.bos_token_id)]
    opening.backend_tokenizer.post_processor = processors.TemplateProcessing("<|im_start|> $A", special_tokens=start)
    assert subject_end(opening, "Rome is", "Rome") == 4
    assert subject_end(opening, "<|im_start|>Rome is", "Rome") == 4
    assert subject_end(opening, "<|im_start|>Rome is", None) == 7
