"""Examples as tokens with their labels, as trl makes them of the same examples.

They are made before anything is trained, for only then are the steps of an epoch known, and what cannot be told.
"""

from collections.abc import Callable
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from roselora.errors import ConfigError, shortened
from roselora.user_files import shown

IGNORED = -100
"""The label of a token that is not learnt."""


def causal_tokens(
    examples: Dataset, tokenizer: PreTrainedTokenizerBase, rows: int, max_length: int, source: str
) -> Dataset:
    """``input_ids`` and ``labels`` of every example that has something to learn within ``max_length`` tokens.

    Args:
        examples: prompt and completion, of which the completion is learnt, or text, learnt whole.
        rows: of the model's embedding.
        source: where they are from, for messages.

    Raises:
        ConfigError: the chat template refuses an example or leaves its answer out, a token is not among the model's,
            or no example is left.
    """

    def tokenize(example: dict[str, Any]) -> dict[str, list[int]]:
        ids, start = _ids_and_start(example, tokenizer)
        labels = [IGNORED] * start + ids[start:]
        return {"input_ids": ids[:max_length], "labels": labels[:max_length]}

    tokens = _each(examples, tokenize, tokenizer, rows, source)
    tokens = tokens.filter(lambda labels: any(label != IGNORED for label in labels), input_columns="labels")
    if not len(tokens):
        raise ConfigError(
            f"No example of {source} has a completion within max_length ({max_length} tokens); raise "
            "training.max_length."
        )
    return tokens


def class_tokens(
    examples: Dataset, tokenizer: PreTrainedTokenizerBase, rows: int, max_length: int, source: str
) -> Dataset:
    """What the tokenizer makes of ``text`` and maybe ``text_pair``, cut to ``max_length`` tokens, beside ``label``.

    Raises:
        ConfigError: a token is not among the model's.
    """

    def tokenize(example: dict[str, Any]) -> dict[str, Any]:
        return dict(tokenizer(example["text"], example.get("text_pair"), truncation=True, max_length=max_length))

    return _each(examples, tokenize, tokenizer, rows, source)


def _each(
    examples: Dataset,
    tokenize: Callable[[dict[str, Any]], dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    rows: int,
    source: str,
) -> Dataset:
    def checked(example: dict[str, Any], index: int) -> dict[str, Any]:
        try:
            made = tokenize(example)
        except ConfigError as error:
            raise ConfigError(f"Example {index + 1} of {source} {error}") from None
        if (largest := max(made["input_ids"], default=0)) >= rows:
            token = shown(tokenizer.convert_ids_to_tokens(largest))
            raise ConfigError(
                f"Example {index + 1} of {source} holds the token {token}, whose id {largest} is beyond the model's "
                f"{rows} embeddings; the tokenizer is not this model's."
            )
        return made

    return examples.map(
        checked,
        with_indices=True,
        remove_columns=[name for name in examples.column_names if name != "label"],
        load_from_cache_file=False,
    )


def _ids_and_start(example: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], int]:
    """All tokens of an example, and where those that are learnt begin."""
    if "text" in example:
        return _encode(_ended(example["text"], tokenizer), tokenizer), 0
    prompt, completion = example["prompt"], example["completion"]
    if isinstance(prompt, str):
        asked = _encode(prompt, tokenizer)
        ids = _encode(prompt + _ended(completion, tokenizer), tokenizer)
    else:
        asked = _render(prompt, tokenizer, add_generation_prompt=True)
        ids = _render(prompt + completion, tokenizer)
        _require_answer(prompt, completion, ids, tokenizer)
    # Tokens may merge across the border, and a template may end a prompt otherwise than it goes on.
    same = (number for number, (one, other) in enumerate(zip(asked, ids, strict=False)) if one != other)
    return ids, next(same, min(len(asked), len(ids)))


def _require_answer(
    prompt: list[dict[str, str]], completion: list[dict[str, str]], ids: list[int], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Refuse a template that puts the same, whatever the answer: at most the end of a turn would be learnt."""
    other = [message | {"content": 2 * message["content"]} for message in completion]
    if any(message["content"].strip() for message in completion) and _render(prompt + other, tokenizer) == ids:
        raise ConfigError(
            "loses its answer, which the model's chat template leaves out; change the template, or give data of the "
            "shape completion."
        )


def _ended(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    end = str(tokenizer.eos_token)
    return text if text.endswith(end) else text + end


def _encode(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return list(tokenizer(text, verbose=False)["input_ids"])


def _render(messages: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase, **options: Any) -> list[int]:
    try:
        rendered: Any = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **options)
    except Exception as error:  # a template is a program of its author's, and fails in ways of its own
        reason = shortened(" ".join(str(error).split()).rstrip(".") or type(error).__name__)
        raise ConfigError(
            f"is refused by the model's chat template ({reason}); change it, or give data of the shape completion."
        ) from None
    return list(rendered["input_ids"])
