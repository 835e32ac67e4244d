"""Greedy answers, greedy tokens and next-token distributions of many prompts at once; and sampled tokens.

Prompts are raw text to be continued, tokenized as the tokenizer does by itself. Batches are padded on the left,
masked, and given the positions that each prompt has alone, so that batching changes no answer. An answer ends at the
latest where the model's context does, and a prompt beyond that is refused. Where a broken model's
logits hold NaN, what it says ends before that token, and the answer counts as not ended.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from roselora.errors import ConfigError, NonFiniteError
from roselora.models.devices import seeded
from roselora.models.inference import as_usual, evaluating, known_arguments, unwrapped
from roselora.models.padding import padded_inputs, positions
from roselora.models.tokenization import answer_of, context_of, decode, embedding_rows, encode, require_known
from roselora.user_files import shown

BATCH_SIZE = 16

GiveUp = Callable[[int, int, str], bool]
"""From a prompt's index, how many tokens were said and their text, whether what may follow is of no interest."""


class Answer(NamedTuple):
    """What a model says, and whether it came to an end by itself: by EOS or a newline, not by a limit."""

    text: str
    ended: bool


def greedy_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int = BATCH_SIZE,
) -> list[str]:
    """What the model says after each prompt, by itself: greedy, up to EOS or the end of the answer's line.

    Blank lines before the answer do not end it, and neither does a full stop. The text is stripped and holds no
    special tokens. The model's own generation settings (sampling, penalties) have no influence, and its
    train or eval mode is put back.

    Raises:
        ConfigError: a prompt has no tokens or too many, or `max_new_tokens` or `batch_size` is below 1.
    """
    limits = [max_new_tokens] * len(prompts)
    return [answer.text for answer in limited_answers(model, tokenizer, prompts, limits, batch_size=batch_size)]


def limited_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    limits: Sequence[int],
    *,
    batch_size: int = BATCH_SIZE,
    give_up: GiveUp | None = None,
) -> list[Answer]:
    """:func:`greedy_answers` with a limit of new tokens for each prompt, and whether each answer ended within it.

    Prompts of like limits are answered together, so that short answers do not wait for long ones. ``give_up`` is
    asked after each token; an answer that it gives up has not ended.

    Raises:
        ConfigError: a prompt has no tokens or too many, or a limit or `batch_size` is below 1.
    """

    def done(index: int, new: int, text: str) -> bool:
        return "\n" in text.lstrip() or (give_up is not None and give_up(index, new, text))

    rows = _generate(model, tokenizer, prompts, limits, batch_size, done=done)
    texts = [decode(tokenizer, row.ids) for row in rows]
    ended = [row.stopped or "\n" in text.lstrip() for row, text in zip(rows, texts, strict=True)]
    return [Answer(answer_of(text), end) for text, end in zip(texts, ended, strict=True)]


def greedy_tokens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int = BATCH_SIZE,
    stop_at_eos: bool = True,
) -> list[list[int]]:
    """The ids of the greedy continuation of each prompt, up to EOS (left out) or `max_new_tokens`.

    With `stop_at_eos` off, EOS is a token like others and the model is made to go on after it.

    Raises:
        ConfigError: a prompt has no tokens or too many, or `max_new_tokens` or `batch_size` is below 1.
    """
    limits = [max_new_tokens] * len(prompts)
    rows = _generate(model, tokenizer, prompts, limits, batch_size, stop_at_eos=stop_at_eos)
    return [row.ids for row in rows]


@as_usual()
@torch.no_grad()
def searched_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    num_beams: int = 1,
    no_repeat_ngram_size: int = 0,
    repetition_penalty: float = 1.0,
    batch_size: int = BATCH_SIZE,
) -> list[str]:
    """What beam search (greedy with one beam) makes the model say after each prompt, up to EOS, newlines and all.

    No special tokens are in the texts. The arguments mean what transformers' ``GenerationConfig`` means by them; the
    model's own generation settings have no influence.

    Raises:
        ConfigError: a prompt has no tokens or too many, or `max_new_tokens` or `batch_size` is below 1.
    """
    if max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens is {max_new_tokens}: it must be at least 1.")
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=num_beams,
        no_repeat_ngram_size=no_repeat_ngram_size,
        repetition_penalty=repetition_penalty,
        use_cache=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=_pad_id(model, tokenizer),
    )
    generate: Any = model.generate
    said: dict[int, str] = {}
    with evaluating(model), _own_generation_config_aside(model):
        for indices, room, batch in _batches(model, tokenizer, prompts, batch_size, [max_new_tokens] * len(prompts)):
            config.max_new_tokens = max(room)
            output = generate(**batch, generation_config=config)
            new = output[:, batch["input_ids"].shape[1] :].tolist()
            for index, row in zip(indices, new, strict=True):
                said[index] = decode(tokenizer, _before(row, tokenizer.eos_token_id))
    return [said[index] for index in range(len(prompts))]


@as_usual()
@torch.no_grad()
def next_token_log_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    batch_size: int = BATCH_SIZE,
) -> Tensor:
    """Log-probabilities, in nats, of the token after each prompt: `(len(prompts), vocabulary)`, fp32, on the CPU.

    Logits are computed at the last position alone where the model can.

    Raises:
        ConfigError: a prompt has no tokens or too many, or `batch_size` is below 1.
    """
    forward: Any = model
    rows: dict[int, Tensor] = {}
    with evaluating(model):
        for indices, _, batch in _batches(model, tokenizer, prompts, batch_size, [1] * len(prompts)):
            places = positions(batch["attention_mask"])
            options = known_arguments(model, position_ids=places, logits_to_keep=1, use_cache=False)
            logits = forward(**batch, **options).logits[:, -1].float()
            rows |= dict(zip(indices, logits.log_softmax(-1).cpu(), strict=True))
    if not rows:
        return torch.empty(0, unwrapped(model).get_output_embeddings().weight.shape[0])
    return torch.stack([rows[index] for index in range(len(prompts))])


class _RowIsDone(StoppingCriteria):
    """Stops a row at its limit or once ``done`` says so of its text; ``kept`` is how many tokens each row then had.

    What follows in the row is padding, which may look like EOS.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompt_length: int,
        indices: list[int],
        limits: list[int],
        done: GiveUp | None,
    ) -> None:
        self.tokenizer, self.prompt_length, self.indices, self.limits = tokenizer, prompt_length, indices, limits
        self.done = done
        self.kept = list(limits)

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        new = input_ids.shape[1] - self.prompt_length
        rows = input_ids[:, self.prompt_length :].tolist()
        stopped = [
            new >= limit or (self.done is not None and self.done(index, new, decode(self.tokenizer, row)))
            for index, limit, row in zip(self.indices, self.limits, rows, strict=True)
        ]
        self.kept = [min(kept, new) if stop else kept for kept, stop in zip(self.kept, stopped, strict=True)]
        return torch.tensor(stopped, device=input_ids.device)


class _WatchForNaN(LogitsProcessor):
    """Remembers how many tokens each row had before its logits first held NaN, of which no argmax means anything."""

    def __init__(self, prompt_length: int, limits: list[int]) -> None:
        self.prompt_length = prompt_length
        self.sound = torch.tensor(limits)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        new = input_ids.shape[1] - self.prompt_length
        broken = scores.isnan().any(-1).cpu()
        self.sound = torch.where(broken, self.sound.clamp(max=new), self.sound)
        return scores


class _RefuseNaN(LogitsProcessor):
    """Raises where a probability is not a number or infinite, before anything is drawn from it."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not torch.isfinite(scores.softmax(-1)).all():
            raise NonFiniteError("The logits are not finite; load the model in float32.")
        return scores


class _Row(NamedTuple):
    """New ids, cut before EOS, before NaN and at the row's limit; and whether EOS stopped them."""

    ids: list[int]
    stopped: bool


@as_usual()
@torch.no_grad()
def _generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    limits: Sequence[int],
    batch_size: int,
    *,
    done: GiveUp | None = None,
    stop_at_eos: bool = True,
) -> list[_Row]:
    """The new ids of each prompt."""
    if wrong := [limit for limit in limits if not isinstance(limit, int) or limit < 1]:
        raise ConfigError(f"max_new_tokens is {shown(wrong[0])}: it must be a whole number and at least 1.")
    eos = tokenizer.eos_token_id if stop_at_eos else None
    generate: Any = model.generate
    rows: dict[int, _Row] = {}
    with evaluating(model), _own_generation_config_aside(model):
        for indices, own, batch in _batches(model, tokenizer, prompts, batch_size, limits):
            length = batch["input_ids"].shape[1]
            watch = _WatchForNaN(length, own)
            stop = _RowIsDone(tokenizer, length, indices, own, done)
            output = generate(
                **batch,
                generation_config=_greedy(max(own), eos, _pad_id(model, tokenizer)),
                logits_processor=LogitsProcessorList([watch]),
                stopping_criteria=StoppingCriteriaList([stop]),
            )
            ends = map(min, stop.kept, watch.sound.tolist())
            for index, row, end in zip(indices, output[:, length:].tolist(), ends, strict=True):
                new = row[:end]
                rows[index] = _Row(new[: new.index(eos)], True) if eos in new else _Row(new, False)
    return [rows[index] for index in range(len(prompts))]


@as_usual()
@torch.no_grad()
def sampled_tokens(model: PreTrainedModel, starts: Tensor, *, new_tokens: int, seed: int) -> Tensor:
    """Each start (n, length) and what the model goes on to say, drawn from its own distribution: (n, length + new).

    Nothing ends before ``new_tokens``; the end-of-sequence token may be drawn like any other.

    Raises:
        NonFiniteError: the logits are not finite.
    """
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=new_tokens, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, use_cache=True, pad_token_id=0
    )
    generate: Any = model.generate
    with evaluating(model), _own_generation_config_aside(model), seeded(seed, model.device):
        made: Tensor = generate(
            starts,
            attention_mask=torch.ones_like(starts),
            generation_config=config,
            logits_processor=LogitsProcessorList([_RefuseNaN()]),
        )
    return made


def _greedy(max_new_tokens: int, eos: int | None, pad: int) -> GenerationConfig:
    return GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=eos,
        pad_token_id=pad,
    )


def _batches(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    batch_size: int,
    limits: Sequence[int],
) -> Iterator[tuple[list[int], list[int], dict[str, Any]]]:
    """Prompts of like limit and length together: their indices, their limits as far as the context has room for them,
    and left-padded ids with mask `(batch, length)`."""
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}: it must be at least 1.")
    if isinstance(prompts, str):
        raise ConfigError(f"Prompts are asked for as a list of texts, not as one text, {shown(prompts)}.")
    ids = [encode(tokenizer, prompt) for prompt in prompts]
    context = context_of(model) or math.inf
    for index, row in enumerate(ids):
        if not row:
            raise ConfigError(f"prompt {index} is {prompts[index]!r}, which has no tokens: give it some text.")
        if len(row) > context:
            raise ConfigError(
                f"prompt {index}, {shown(prompts[index])}, takes {len(row)} tokens; the model reads {context}; "
                "shorten it."
            )
        require_known(model, tokenizer, row, prompts[index])
    # The last token that is said is not read.
    room = [int(min(limit, context + 1 - len(row))) for limit, row in zip(limits, ids, strict=True)]
    groups: list[list[int]] = []
    for index in sorted(range(len(ids)), key=lambda index: (room[index], len(ids[index]))):
        together = [*groups[-1], index] if groups else []
        # For a row that is done is read on until all of its batch are.
        reads = max((len(ids[other]) for other in together), default=0) + room[index] - 1
        if not together or len(together) > batch_size or reads > context:
            groups.append([index])
        else:
            groups[-1].append(index)
    device = next(model.parameters()).device
    for indices in groups:
        batch = padded_inputs([ids[index] for index in indices], side="left", fill=_pad_id(model, tokenizer))
        yield indices, [room[index] for index in indices], {name: rows.to(device) for name, rows in batch.items()}


def _before(ids: list[int], end: int | None) -> list[int]:
    """What stands before the first ``end``; after it comes padding."""
    return ids[: ids.index(end)] if end in ids else ids


def _pad_id(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """An id to pad with that the model knows; which one does not matter, for it is masked."""
    rows = embedding_rows(model)
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(candidate for candidate in candidates if candidate is not None and candidate < rows)


@contextlib.contextmanager
def _own_generation_config_aside(model: PreTrainedModel) -> Iterator[None]:
    """Take the model's generation settings away for a while: `generate` fills what a config leaves open from them."""
    owners = [owner for owner in (model, unwrapped(model)) if "generation_config" in vars(owner)]
    before = [owner.generation_config for owner in owners]
    for owner in owners:
        owner.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for owner, config in zip(owners, before, strict=True):
            owner.generation_config = config
