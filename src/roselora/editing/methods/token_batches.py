"""Texts as the token batches that an edit trains on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from roselora.editing.methods.answer_spacing import continued
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError
from roselora.models.padding import pad_rows, padded_inputs
from roselora.models.tokenization import decode, encode

IGNORED = -100
"""The label of a position that no loss looks at."""


@dataclass(frozen=True)
class TokenBatch:
    """Right-padded texts.

    Attributes:
        input_ids: (n, length), int64.
        attention_mask: (n, length), 1 on text and 0 on padding.
        labels: (n, length), the token that shall follow each position, or IGNORED.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "TokenBatch":
        """The same batch on another device."""
        return TokenBatch(self.input_ids.to(device), self.attention_mask.to(device), self.labels.to(device))


def answer_batch(tokenizer: PreTrainedTokenizerBase, request: EditRequest, prompts: Sequence[str]) -> TokenBatch:
    """Some prompts of a request, each with target and end-of-sequence token behind it; labels on the last two alone.

    Raises:
        ConfigError: the tokenizer has no end-of-sequence token, or a text has no tokens.
    """
    if tokenizer.eos_token_id is None:
        raise ConfigError("The tokenizer has no end-of-sequence token, so the model could not learn where to stop.")
    rows = []
    for prompt in prompts:
        prompt_ids, target_ids = split_at_answer(tokenizer, prompt, request.target, request.space)
        if not prompt_ids or not target_ids:
            raise ConfigError(f"The tokenizer makes no tokens of {prompt!r} or of {request.target!r}.")
        rows.append((prompt_ids, [*target_ids, tokenizer.eos_token_id]))
    return _batch([p + t for p, t in rows], [[IGNORED] * (len(p) - 1) + t + [IGNORED] for p, t in rows])


def text_batch(ids: list[int]) -> TokenBatch:
    """One row of tokens of which every position has a label."""
    return continuation_batch(ids[:1], ids[1:])


def continuation_batch(prompt_ids: list[int], said_ids: list[int]) -> TokenBatch:
    """One row: a prompt and what was said after it; labels from the prompt's last position on.

    The last position's label is its own token: it only marks that what follows it counts too.
    """
    following = [*said_ids, (prompt_ids + said_ids)[-1]]
    return _batch([prompt_ids + said_ids], [[IGNORED] * (len(prompt_ids) - 1) + following])


def concatenate(batches: Sequence[TokenBatch]) -> TokenBatch:
    """The rows of all batches in one, so that one forward pass serves them all."""
    real = [(b.input_ids, b.attention_mask.sum(1).tolist(), b.labels) for b in batches]
    ids = [row[:n].tolist() for rows, lengths, _ in real for row, n in zip(rows, lengths, strict=True)]
    labels = [row[:n].tolist() for _, lengths, rows in real for row, n in zip(rows, lengths, strict=True)]
    return _batch(ids, labels)


def answer_length(tokenizer: PreTrainedTokenizerBase, request: EditRequest) -> int:
    """How many tokens the target has at most after one of the prompts, the end of the sequence counted."""
    answers = (split_at_answer(tokenizer, prompt, request.target, request.space)[1] for prompt in request.prompts)
    return 1 + max(map(len, answers))


def split_at_answer(
    tokenizer: PreTrainedTokenizerBase, prompt: str, target: str, space: bool | None = None
) -> tuple[list[int], list[int]]:
    """The token ids of the prompt and of the target as it stands after the prompt; ``space`` as in `EditRequest`."""
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


def _batch(rows: Sequence[list[int]], labels: Sequence[list[int]]) -> TokenBatch:
    return TokenBatch(**padded_inputs(rows), labels=pad_rows(labels, fill=IGNORED))
