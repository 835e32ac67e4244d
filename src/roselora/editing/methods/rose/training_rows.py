"""The texts of an edit by factors as rows of tokens, with labels where the answer or the prediction counts."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.forms import asked_texts, request_texts
from roselora.editing.methods.neutral_texts import NEUTRAL_TEXTS
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.rose.rose_texts import RoseTexts, rose_texts
from roselora.editing.methods.token_batches import (
    IGNORED,
    LabelledRow,
    continuation_row,
    prompt_and_answer,
    text_row,
)
from roselora.editing.request import EditRequest
from roselora.models.generation import greedy_tokens
from roselora.models.tokenization import encode

KEPT_TOKENS = 16
"""How many tokens of a keep-prompt's continuation must not change: as many as locality compares."""

PREVIOUS_PROMPTS = 16
"""How many prompts of previous edits one edit must not change, drawn at random, so that its cost does not grow."""

NEUTRAL_ROWS = 8
"""How many neutral texts there are; they look at every token, so one a step costs as much as the others together."""


@dataclass(frozen=True)
class KeptRows:
    """Rows of one kind where nothing may change: ``always`` those that every step looks at, and how many it draws."""

    rows: list[int]
    always: int = 0
    most: int | None = None

    def some(self, count: int, drawn: random.Random) -> list[int]:
        """The rows of one step, of which it draws ``count`` or, if that is less, ``most``."""
        others = self.rows[self.always :]
        count = count if self.most is None else min(count, self.most)
        return [*self.rows[: self.always], *drawn.sample(others, min(count, len(others)))]


@dataclass(frozen=True)
class TrainingRows:
    """All rows of one edit.

    Attributes:
        ids: of each row its tokens; those with the answer come first.
        labels: of each row, (length,) int64, the token that must follow each position or, where nothing may change,
            any token where the prediction counts; else IGNORED.
        answers: the numbers of the rows with the answer: the prompts, and then generated rephrasings.
        prompts: how many of them are prompts.
        kept: groups of the other rows.
    """

    ids: list[list[int]]
    labels: list[Tensor]
    answers: list[int]
    prompts: int
    kept: list[KeptRows]

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        request: EditRequest,
        settings: EditSettings,
        previous: Sequence[str],
    ) -> "TrainingRows":
        """The rows of a request; with ``target_modules`` its prompts alone, and no negatives.

        Args:
            previous: prompts of previous edits, whose answers must stay.

        Raises:
            ConfigError: the tokenizer has no end-of-sequence token, or a text has no tokens.
        """
        drawn = random.Random(settings.seed)
        if settings.target_modules is None:
            texts = rose_texts(model, tokenizer, request, drawn)
        else:
            texts = RoseTexts(request_texts(tokenizer, request))
        rows: list[LabelledRow] = []
        for asked in (*texts.prompts, *texts.rephrasings):
            prompt, answer = prompt_and_answer(tokenizer, asked.text, request.target, asked.space)
            rows.append(LabelledRow(prompt + answer[:-1], [IGNORED] * (len(prompt) - 1) + answer))
        answers, kept = list(range(len(rows))), []
        # Of the same prompt the newer edit wins.
        others = [prompt for prompt in previous if prompt not in request.prompts]
        others = drawn.sample(others, min(PREVIOUS_PROMPTS, len(others)))
        if settings.keep_weight:
            keep = [asked.text for prompt in request.keep for asked in asked_texts(tokenizer, prompt, request.form)]
            prompts = [*keep, *others]
            generated = greedy_tokens(model, tokenizer, prompts, max_new_tokens=KEPT_TOKENS)
            groups = (
                [continuation_row(encode(tokenizer, text), ids) for text, ids in zip(prompts, generated, strict=True)],
                [continuation_row(encode(tokenizer, text), []) for text in texts.renamed],
                [continuation_row(encode(tokenizer, text), []) for text in texts.related],
                [text_row(encode(tokenizer, text)) for text in NEUTRAL_TEXTS[:NEUTRAL_ROWS]],
            )
            limits = ((len(keep), None), (0, None), (0, None), (0, 1))
            for group, (always, most) in zip(groups, limits, strict=True):
                kept.append(KeptRows(list(range(len(rows), len(rows) + len(group))), always, most))
                rows += group
        labels = [torch.tensor(row.labels, device=model.device) for row in rows]
        return cls([row.ids for row in rows], labels, answers, len(texts.prompts), kept)
