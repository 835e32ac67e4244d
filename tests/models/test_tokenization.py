"""Texts as tokens: what a tokenizer adds behind a text is left out, and what it cannot read is one sentence."""

from copy import deepcopy
from typing import Any

import pytest
from tokenizers import processors

from roselora.errors import ConfigError
from roselora.models.generation import greedy_answers
from roselora.models.tokenization import encode

BOS, EOS = 1, 2
"""The ids of the tiny tokenizer's beginning and end of a sequence."""


def adding(tokenizer: Any, template: str) -> Any:
    made = deepcopy(tokenizer)
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=template, pair=f"{template} $B", special_tokens=[("<|im_start|>", BOS), ("<|im_end|>", EOS)]
    )
    return made


@pytest.mark.parametrize(
    ("template", "before"),
    [("$A <|im_end|>", []), ("<|im_start|> $A", [BOS]), ("<|im_start|> $A <|im_end|>", [BOS]), ("$A", [])],
)
def test_a_prompt_keeps_what_the_tokenizer_puts_before_it_and_not_what_it_puts_behind(
    tiny_tokenizer: Any, template: str, before: list[int]
) -> None:
    tokenizer = adding(tiny_tokenizer, template)
    bare = tiny_tokenizer("a b").input_ids
    assert encode(tokenizer, "a b") == [*before, *bare]
    assert encode(tokenizer, "a b", opening=False) == bare
    assert encode(tokenizer, "") == before
    # What the user writes stays.
    assert encode(tokenizer, "a b<|im_end|>") == [*before, *bare, EOS]


def test_a_text_that_begins_with_the_beginning_of_a_sequence_gets_no_second_one(tiny_tokenizer: Any) -> None:
    tokenizer = adding(tiny_tokenizer, "<|im_start|> $A <|im_end|>")
    assert encode(tokenizer, "<|im_start|>a b") == encode(tokenizer, "a b")


def test_an_appended_end_of_sequence_does_not_change_what_a_model_says(tiny_model: Any, tiny_tokenizer: Any) -> None:
    model, prompts = tiny_model(), ["The capital", "a"]
    plain = greedy_answers(model, tiny_tokenizer, prompts, max_new_tokens=5)
    assert greedy_answers(model, adding(tiny_tokenizer, "$A <|im_end|>"), prompts, max_new_tokens=5) == plain


class Panic(BaseException):
    """As the panics of a tokenizer's Rust code are."""


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ("abc", "list of texts, not one text, 'abc'"),
        (["a \ud800"], r"cannot read 'a \\ud800'"),
        ([None], "must be a text, not None"),
        (["a<added>"], r"'<added>' \(id 259\), but the model's embedding has 259 rows"),
    ],
)
def test_prompts_that_cannot_be_read_are_one_sentence(
    tiny_model: Any, tiny_tokenizer: Any, prompts: Any, said: str
) -> None:
    tokenizer = deepcopy(tiny_tokenizer)
    tokenizer.add_tokens(["<added>"])
    with pytest.raises(ConfigError, match=said):
        greedy_answers(tiny_model(), tokenizer, prompts, max_new_tokens=2)


def test_a_panic_of_the_tokenizer_is_one_sentence(tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def panic(*_: Any, **__: Any) -> Any:
        raise Panic("called `Result::unwrap()` on an `Err` value")

    tokenizer = deepcopy(tiny_tokenizer)
    monkeypatch.setattr(tokenizer, "_encode_plus", panic)
    with pytest.raises(ConfigError, match=r"cannot read 'x'.*Panic: 'called"):
        encode(tokenizer, "x")


def test_a_padding_token_that_the_model_lacks_pads_nothing(tiny_model: Any, tiny_tokenizer: Any) -> None:
    tokenizer = deepcopy(tiny_tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    model, prompts = tiny_model(), ["The capital", "a"]
    assert tokenizer.pad_token_id >= model.get_input_embeddings().weight.shape[0]
    expected = greedy_answers(model, tiny_tokenizer, prompts, max_new_tokens=8)
    assert greedy_answers(model, tokenizer, prompts, max_new_tokens=8) == expected
