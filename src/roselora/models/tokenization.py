"""Texts as the tokens that a model goes on from, and tokens as the text that it has said."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from roselora.errors import ConfigError
from roselora.models.inference import unwrapped
from roselora.user_files import shown


def encode(tokenizer: PreTrainedTokenizerBase, text: str, *, opening: bool = True) -> list[int]:
    """The ids of a text that is to be gone on with.

    They are the tokenizer's own, but for an end-of-sequence token or the like that it puts behind a text: behind that,
    a model goes on with another text. Nor does it put a second beginning before a text that begins with one, as texts
    in a chat template do.

    Args:
        opening: whether what the tokenizer puts before a text, such as a beginning-of-sequence token, belongs to it.

    Raises:
        ConfigError: it is no text, or the tokenizer cannot read it.
    """
    ids, added = _tokenized(tokenizer, text)
    last = max((place for place, special in enumerate(added) if not special), default=-1)
    if last < 0:  # there is nothing but what the tokenizer adds
        return [token for token in ids if token != tokenizer.eos_token_id] if opening else []
    twice = ids[:2] == [tokenizer.bos_token_id] * 2 and added[:2] == [1, 0]
    pairs = zip(ids[twice : last + 1], added[twice : last + 1], strict=True)
    return [token for token, special in pairs if opening or not special]


def _tokenized(tokenizer: PreTrainedTokenizerBase, text: Any) -> tuple[list[int], list[int]]:
    """The ids, and 1 for each that the tokenizer has added."""
    if not isinstance(text, str):
        raise ConfigError(f"A prompt must be a text, not {shown(text)}.")
    try:
        encoded: Any = tokenizer(text, return_special_tokens_mask=True)
        return list(encoded.input_ids), list(encoded.special_tokens_mask)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a panic of the tokenizer's Rust code is no Exception
        reason = shown(" ".join(str(error).split()), 120)
        raise ConfigError(f"The tokenizer cannot read {shown(text)} ({type(error).__name__}: {reason}).") from error


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """What tokens say, without special ones."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def answer_of(text: str) -> str:
    """The answer in what a model says: its first line that is not blank, stripped."""
    return text.lstrip().split("\n", 1)[0].strip()


def embedding_rows(model: nn.Module) -> int:
    """How many tokens the model knows; a tokenizer may know more."""
    embedding: Any = unwrapped(model).get_input_embeddings()
    return int(embedding.weight.shape[0])


def context_of(model: nn.Module) -> int | None:
    """How many tokens the model reads at most, where its config says so."""
    context: int | None = getattr(unwrapped(model).config, "max_position_embeddings", None)
    return context


def require_known(model: nn.Module, tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str) -> None:
    """Refuse tokens that the tokenizer knows and the model does not.

    Raises:
        ConfigError: an id is beyond the model's embedding.
    """
    rows = embedding_rows(model)
    if (highest := max(ids, default=0)) >= rows:
        token = shown(tokenizer.convert_ids_to_tokens(highest))
        raise ConfigError(
            f"{shown(text)} holds the token {token} (id {highest}), and the model's embedding has {rows} rows; resize "
            "it with model.resize_token_embeddings(len(tokenizer)), or leave the token out."
        )
