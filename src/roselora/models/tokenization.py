"""Prompts as tokens, and generated tokens as text."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from roselora.errors import ConfigError
from roselora.models.inference import unwrapped
from roselora.user_files import shown


def encode(tokenizer: PreTrainedTokenizerBase, text: str, *, opening: bool = True) -> list[int]:
    """The ids of a text that the model is to continue.

    They are the tokenizer's, but without what it adds after a text, such as an end-of-sequence token: after that, a
    model starts another text. A text that starts with a beginning-of-sequence token, as chat templates write, gets no
    second one.

    Args:
        opening: whether to keep what the tokenizer adds before a text, such as a beginning-of-sequence token.

    Raises:
        ConfigError: it is not text, or the tokenizer cannot encode it.
    """
    ids, added = _tokenized(tokenizer, text)
    last = max((place for place, special in enumerate(added) if not special), default=-1)
    if last < 0:  # the text has no tokens of its own
        return [token for token in ids if token != tokenizer.eos_token_id] if opening else []
    twice = ids[:2] == [tokenizer.bos_token_id] * 2 and added[:2] == [1, 0]
    pairs = zip(ids[twice : last + 1], added[twice : last + 1], strict=True)
    return [token for token, special in pairs if opening or not special]


def _tokenized(tokenizer: PreTrainedTokenizerBase, text: Any) -> tuple[list[int], list[int]]:
    """The ids, and for each a 1 if the tokenizer has added it, else a 0."""
    if not isinstance(text, str):
        raise ConfigError(f"A prompt must be a text, not {shown(text)}.")
    try:
        encoded: Any = tokenizer(text, return_special_tokens_mask=True)
        return list(encoded.input_ids), list(encoded.special_tokens_mask)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a panic of the tokenizer's Rust code is not an Exception
        reason = shown(" ".join(str(error).split()), 120)
        raise ConfigError(f"The tokenizer cannot read {shown(text)} ({type(error).__name__}: {reason}).") from error


def shared_beginning(some: Sequence[int], others: Sequence[int]) -> int:
    """How many tokens two texts begin with alike.

    >>> shared_beginning([5, 6, 7], [5, 6, 8, 9])
    2
    """
    pairs = enumerate(zip(some, others, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(some), len(others)))


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of tokens, without special ones."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def answer_of(text: str) -> str:
    """The answer in a generated text: its first line that is not blank, stripped.

    >>> answer_of("\\n Paris \\nis the capital")
    'Paris'
    """
    return text.lstrip().split("\n", 1)[0].strip()


def embedding_rows(model: nn.Module) -> int:
    """The number of tokens in the model's embedding; a tokenizer may have more."""
    embedding: Any = unwrapped(model).get_input_embeddings()
    return int(embedding.weight.shape[0])


def context_of(model: nn.Module) -> int | None:
    """The model's maximum number of tokens, if its config says so."""
    context: int | None = getattr(unwrapped(model).config, "max_position_embeddings", None)
    return context


def require_known(model: nn.Module, tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str) -> None:
    """Refuse tokens that the tokenizer has but the model's embedding lacks.

    Raises:
        ConfigError: an id is beyond the embedding.
    """
    rows = embedding_rows(model)
    if (highest := max(ids, default=0)) >= rows:
        token = shown(tokenizer.convert_ids_to_tokens(highest))
        raise ConfigError(
            f"{shown(text)} contains the token {token} (id {highest}), but the model's embedding has {rows} rows; "
            "resize it with model.resize_token_embeddings(len(tokenizer)), or leave the token out."
        )
