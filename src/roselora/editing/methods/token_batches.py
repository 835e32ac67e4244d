"""Texts as labelled rows of tokens, and rows as the batches that an edit trains on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from roselora.editing.forms import request_texts
from roselora.editing.methods.answer_spacing import continued
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError
from roselora.models.padding import pad_rows, padded_inputs
from roselora.models.tokenization import decode, encode

IGNORED = -100
"""The label of a position that adds nothing to a loss."""


@dataclass(frozen=True)
class LabelledRow:
    """One text.

    Attributes:
        ids: its tokens.
        labels: for each position the token that must follow, or IGNORED.
    """

    ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class TokenBatch:
    """Texts padded on the right, each tensor (n, length) int64.

    Attributes:
        input_ids: the tokens.
        attention_mask: 1 on text and 0 on padding.
        labels: the token that must follow each position, or IGNORED.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


def token_batch(rows: Sequence[LabelledRow], device: torch.device | None = None) -> TokenBatch:
    """Rows as one batch, so that one forward pass serves them all.

    >>> token_batch([LabelledRow([5, 6, 7], [IGNORED, 7, 8]), LabelledRow([9], [5])]).labels
    tensor([[-100,    7,    8],
            [   5, -100, -100]])
    """
    labels = pad_rows([row.labels for row in rows], fill=IGNORED)
    inputs = padded_inputs([row.ids for row in rows]) | {"labels": labels}
    return TokenBatch(**{name: tensor.to(device) for name, tensor in inputs.items()})


def answer_rows(tokenizer: PreTrainedTokenizerBase, request: EditRequest) -> list[LabelledRow]:
    """A request's prompts in all forms, each followed by target and end-of-sequence token; only these two have labels.

    Raises:
        ConfigError: the tokenizer has no end-of-sequence token, a text has no tokens, or there is no such form.
    """
    rows = []
    for asked in request_texts(tokenizer, request):
        prompt, answer = prompt_and_answer(tokenizer, asked.text, request.target, asked.space)
        rows.append(LabelledRow(prompt + answer, [IGNORED] * (len(prompt) - 1) + answer + [IGNORED]))
    return rows


def text_row(ids: list[int]) -> LabelledRow:
    """A text of which every position has a label."""
    return continuation_row(ids[:1], ids[1:])


def continuation_row(prompt_ids: list[int], generated_ids: list[int]) -> LabelledRow:
    """A prompt and what was generated after it; labels from the prompt's last position on.

    The last position's label is its own token: it only marks that the prediction after it counts too.
    """
    ids = prompt_ids + generated_ids
    return LabelledRow(ids, [IGNORED] * (len(prompt_ids) - 1) + [*generated_ids, ids[-1]])


def prompt_and_answer(
    tokenizer: PreTrainedTokenizerBase, prompt: str, target: str, space: bool | None = None
) -> tuple[list[int], list[int]]:
    """The ids of the prompt, and of the target after it with the end-of-sequence token; ``space`` as in `EditRequest`.

    Raises:
        ConfigError: the tokenizer has no end-of-sequence token, or a text has no tokens.
    """
    if tokenizer.eos_token_id is None:
        raise ConfigError("The tokenizer has no end-of-sequence token, so the model could not learn where to stop.")
    prompt_ids, target_ids = split_at_answer(tokenizer, prompt, target, space)
    if not prompt_ids or not target_ids:
        raise ConfigError(f"The tokenizer produces no tokens for {prompt!r} or for {target!r}.")
    return prompt_ids, [*target_ids, int(tokenizer.eos_token_id)]


def answer_length(tokenizer: PreTrainedTokenizerBase, request: EditRequest) -> int:
    """How many tokens the target has at most after one of the prompts, the end-of-sequence token included."""
    texts = request_texts(tokenizer, request)
    answers = (split_at_answer(tokenizer, asked.text, request.target, asked.space)[1] for asked in texts)
    return 1 + max(map(len, answers))


def split_at_answer(
    tokenizer: PreTrainedTokenizerBase, prompt: str, target: str, space: bool | None = None
) -> tuple[list[int], list[int]]:
    """The ids of the prompt, and of the target as it stands after the prompt; ``space`` as in `EditRequest`."""
    answer = continued(tokenizer, prompt, target, space)
    prompt_ids = encode(tokenizer, prompt)
    joint = encode(tokenizer, prompt + answer)
    if joint[: len(prompt_ids)] == prompt_ids:
        return prompt_ids, joint[len(prompt_ids) :]
    # A token spans the border; generation starts after the prompt's own tokens, so training must too.
    return prompt_ids, _inside_a_text(tokenizer, answer)


def _inside_a_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text in the middle of another, without the space that some tokenizers put before every text."""
    alone = encode(tokenizer, text, opening=False)
    before = encode(tokenizer, "\n", opening=False)
    behind = encode(tokenizer, f"\n{text}", opening=False)
    if behind[: len(before)] == before and decode(tokenizer, [*before, *alone]) != f"\n{text}":
        return behind[len(before) :]
    return alone
