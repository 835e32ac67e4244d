"""Training examples as tokens and labels, the same that trl makes of them.

They are made before the Trainer exists: adapters and dry runs need the number of steps of an epoch, which depends on
how many examples have something to learn within the maximum length.
"""

from collections.abc import Callable, Mapping
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from roselora.errors import ConfigError, shortened
from roselora.training.loreft import IGNORED
from roselora.user_files import shown


def causal_tokens(
    rows: Dataset,
    examples_of: Callable[[Mapping[str, Any]], list[dict[str, Any]]],
    tokenizer: PreTrainedTokenizerBase,
    known_tokens: int,
    max_length: int,
    source: str,
) -> tuple[Dataset, int]:
    """``input_ids`` and ``labels`` of every example, and how many were left out.

    An example is left out if no token of its completion is within ``max_length``.

    Args:
        rows: the records.
        examples_of: the examples of one record.
        known_tokens: rows of the model's embedding.
        source: what error messages call the records.

    Raises:
        ConfigError: the chat template refuses an example or leaves its answer out, the model does not know a token, or
            no example is left.
    """

    def tokenize(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[list[int]]]:
        made: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
        for place, index in enumerate(indices):
            for example in examples_of({name: column[place] for name, column in batch.items()}):
                try:
                    ids, start = _ids_and_start(example, tokenizer)
                except ConfigError as error:
                    raise ConfigError(f"Record {index + 1} of {source} {error}") from None
                _require_known(ids, tokenizer, known_tokens, f"Record {index + 1} of {source}")
                made["input_ids"].append(ids[:max_length])
                made["labels"].append(([IGNORED] * start + ids[start:])[:max_length])
        return made

    # Not from the cache: records put as chat messages and as Alpaca's text must not be taken for each other.
    options: dict[str, Any] = {"remove_columns": rows.column_names, "load_from_cache_file": False}
    every = rows.map(tokenize, batched=True, with_indices=True, **options)
    tokens = every.filter(lambda labels: any(label != IGNORED for label in labels), input_columns="labels")
    if not len(tokens):
        raise ConfigError(
            f"No example of {source} has a completion within max_length ({max_length} tokens); raise "
            "training.max_length."
        )
    return tokens, len(every) - len(tokens)


def class_tokens(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, known_tokens: int, max_length: int, source: str
) -> Dataset:
    """What the tokenizer makes of ``text`` and maybe ``text_pair``, cut to ``max_length`` tokens, beside ``label``.

    Raises:
        ConfigError: the model does not know a token.
    """

    def tokenize(record: dict[str, Any], index: int) -> dict[str, Any]:
        made = dict(tokenizer(record["text"], record.get("text_pair"), truncation=True, max_length=max_length))
        _require_known(made["input_ids"], tokenizer, known_tokens, f"Record {index + 1} of {source}")
        return made

    texts = [name for name in rows.column_names if name != "label"]
    return rows.map(tokenize, with_indices=True, remove_columns=texts, load_from_cache_file=False)


def _require_known(ids: list[int], tokenizer: PreTrainedTokenizerBase, known_tokens: int, where: str) -> None:
    if (largest := max(ids, default=0)) >= known_tokens:
        token = shown(tokenizer.convert_ids_to_tokens(largest))
        raise ConfigError(
            f"{where} holds the token {token}, whose id {largest} is beyond the model's {known_tokens} embeddings; the "
            "tokenizer is not this model's."
        )


def _ids_and_start(example: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], int]:
    """All tokens of an example, and the index of the first that is learned."""
    if "text" in example:
        return _encode(_ended(example["text"], tokenizer), tokenizer), 0
    prompt, completion = example["prompt"], example["completion"]
    if isinstance(prompt, str):
        prompt_ids = _encode(prompt, tokenizer)
        ids = _encode(prompt + _ended(completion, tokenizer), tokenizer)
    else:
        prompt_ids = _render(prompt, tokenizer, add_generation_prompt=True)
        ids = _render(prompt + completion, tokenizer)
        _require_answer(prompt, completion, ids, tokenizer)
    # The completion starts where both differ, which may be before the prompt's end: tokens can merge across the border,
    # and a template can end a prompt in another way than it continues it.
    differing = (place for place, (one, other) in enumerate(zip(prompt_ids, ids, strict=False)) if one != other)
    return ids, next(differing, min(len(prompt_ids), len(ids)))


def _require_answer(
    prompt: list[dict[str, str]], completion: list[dict[str, str]], ids: list[int], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Refuse a template whose text does not depend on the answer: the model would learn at most the end of a turn."""
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
    except Exception as error:  # a template is a program, and can raise anything
        reason = shortened(" ".join(str(error).split()).rstrip(".") or type(error).__name__)
        raise ConfigError(
            f"is refused by the model's chat template ({reason}); change it, or give data of the shape completion."
        ) from None
    return list(rendered["input_ids"])
