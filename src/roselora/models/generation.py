"""Text that a model generates after many prompts at once: greedy answers and tokens, beam search, and samples.

A prompt is raw text, tokenized as the tokenizer does by default. Batches are padded and masked, what several prompts
begin with is read once, and each prompt keeps the positions that it has alone, so that batching changes no answer.
Generation ends where the model's context ends. The model's own generation settings (sampling, penalties) have no
influence, and its train or eval mode is restored. If the logits of a broken model contain NaN, the text ends before
that token and counts as not ended.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from roselora.errors import NonFiniteError
from roselora.models.devices import seeded
from roselora.models.inference import Progress, contiguous_head_inputs, default_torch_modes, eval_mode, unwrapped
from roselora.models.mlp_neurons import Neurons, recorded_inputs
from roselora.models.prompt_batches import PromptBatch, pad_id, prompt_batches
from roselora.models.shared_prefix import past_of
from roselora.models.tokenization import answer_of, decode

BATCH_SIZE = 16

EarlyStop = Callable[[int, int, str], bool]
"""From a prompt's index, the number of tokens generated and their text: whether the rest is of no interest."""


class GeneratedAnswer(NamedTuple):
    """An answer, and whether it ended by itself, with EOS or a newline, and not at a limit."""

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
    """The model's greedy answer to each prompt, up to EOS or the end of the answer's line.

    Blank lines before the answer do not end it, and neither does a full stop. The text is stripped and contains no
    special tokens.

    Raises:
        ConfigError: a prompt has no tokens or too many, or ``max_new_tokens`` or ``batch_size`` is below 1.
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
    stop_early: EarlyStop | None = None,
    on_progress: Progress | None = None,
) -> list[GeneratedAnswer]:
    """:func:`greedy_answers` with a limit of new tokens for each prompt; says too whether each answer ended within it.

    Args:
        stop_early: called after each token; an answer that it stops has not ended.
        on_progress: called after each batch with how many of how many prompts are answered.

    Raises:
        ConfigError: a prompt has no tokens or too many, or a limit or ``batch_size`` is below 1.
    """

    def done(index: int, new: int, text: str) -> bool:
        return _has_full_line(text) or (stop_early is not None and stop_early(index, new, text))

    rows = _greedy(model, tokenizer, prompts, limits, batch_size, done=done, on_progress=on_progress)
    texts = [decode(tokenizer, row.ids) for row in rows]
    return [
        GeneratedAnswer(answer_of(text), row.eos or _has_full_line(text)) for row, text in zip(rows, texts, strict=True)
    ]


def _has_full_line(text: str) -> bool:
    return "\n" in text.lstrip()


def greedy_tokens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int = BATCH_SIZE,
    stop_at_eos: bool = True,
) -> list[list[int]]:
    """The ids of the greedy continuation of each prompt, up to EOS (left out) or ``max_new_tokens``.

    Without ``stop_at_eos``, EOS is a token like any other, and generation goes on after it.

    Raises:
        ConfigError: a prompt has no tokens or too many, or ``max_new_tokens`` or ``batch_size`` is below 1.
    """
    limits = [max_new_tokens] * len(prompts)
    return [row.ids for row in _greedy(model, tokenizer, prompts, limits, batch_size, stop_at_eos=stop_at_eos)]


def greedy_activations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    mlp: Neurons,
    limits: Sequence[int],
    *,
    batch_size: int = 4 * BATCH_SIZE,
) -> list[Tensor]:
    """What an MLP reads where the model reads its own greedy answer to each prompt, (tokens, width) fp32.

    The first token is the prompt's last, and the others are those of the answer up to EOS.

    Args:
        limits: how many tokens of each prompt are read at most.

    Raises:
        ConfigError: a prompt has no tokens or too many, or a limit or ``batch_size`` is below 1.
    """
    eos, found = tokenizer.eos_token_id, {}
    for batch in prompt_batches(model, tokenizer, prompts, limits, batch_size):
        config = GenerationConfig(num_beams=1, eos_token_id=eos)  # type: ignore[no-untyped-call]
        past = _past(model, batch)
        with recorded_inputs(model, mlp) as read:
            rows = _continued(model, tokenizer, batch, config, past=past)
        width = read[0].shape[-1]
        states = torch.stack([each.reshape(len(rows), -1, width)[:, -1] for each in read], 1).float()
        for index, row, own, limit in zip(batch.indices, rows, states, batch.limits, strict=True):
            tokens = row.index(eos) if eos in row else len(row)
            found[index] = own[: min(1 + tokens, limit)].clone()
    return [found[index] for index in range(len(prompts))]


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
    """The text that beam search (greedy with one beam) finds after each prompt, up to EOS, newlines included.

    The texts contain no special tokens. The arguments mean what they mean in transformers' ``GenerationConfig``.

    Raises:
        ConfigError: a prompt has no tokens or too many, or ``max_new_tokens`` or ``batch_size`` is below 1.
    """
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        num_beams=num_beams, no_repeat_ngram_size=no_repeat_ngram_size, repetition_penalty=repetition_penalty
    )
    config.eos_token_id = eos = tokenizer.eos_token_id
    texts = [""] * len(prompts)
    for batch in prompt_batches(model, tokenizer, prompts, [max_new_tokens] * len(prompts), batch_size):
        for index, row in zip(batch.indices, _continued(model, tokenizer, batch, config), strict=True):
            texts[index] = decode(tokenizer, row[: row.index(eos)] if eos in row else row)
    return texts


@default_torch_modes()
@torch.no_grad()
def sampled_tokens(
    model: PreTrainedModel,
    starts: Tensor,
    *,
    new_tokens: int,
    seed: int,
    on_token: Callable[[int], None] | None = None,
) -> Tensor:
    """Each start (n, length) with a continuation drawn from the model's own distribution: (n, length + new_tokens).

    Nothing ends before ``new_tokens``; the end-of-sequence token may be drawn like any other.

    Args:
        on_token: called after each token with how many are drawn.

    Raises:
        NonFiniteError: the logits are not finite.
    """
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=new_tokens, do_sample=False, num_beams=1, use_cache=True, pad_token_id=0
    )
    generate: Any = model.generate
    with generating(model), seeded(seed, model.device):
        made: Tensor = generate(
            starts,
            attention_mask=torch.ones_like(starts),
            generation_config=config,
            logits_processor=LogitsProcessorList([_Draw(starts.shape[1], on_token)]),
        )
    return made


class _Row(NamedTuple):
    """New ids, cut before EOS, before NaN and at the row's limit; and whether EOS ended them."""

    ids: list[int]
    eos: bool


def _greedy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    limits: Sequence[int],
    batch_size: int,
    *,
    done: EarlyStop | None = None,
    stop_at_eos: bool = True,
    on_progress: Progress | None = None,
) -> list[_Row]:
    """The greedy continuation of each prompt, up to EOS, its limit, NaN, or where ``done`` says so."""
    eos = tokenizer.eos_token_id if stop_at_eos else None
    rows: dict[int, _Row] = {}
    for batch in prompt_batches(model, tokenizer, prompts, limits, batch_size):
        watch, stop = _WatchForNaN(batch), _StopRows(tokenizer, batch, done)
        config = GenerationConfig(num_beams=1, eos_token_id=eos)  # type: ignore[no-untyped-call]
        found = _continued(model, tokenizer, batch, config, watch, stop, past=_past(model, batch))
        ends = map(min, stop.lengths, watch.lengths.tolist())
        for index, row, end in zip(batch.indices, found, ends, strict=True):
            new = row[:end]  # what follows is padding, which may look like EOS
            rows[index] = _Row(new[: new.index(eos)], True) if eos in new else _Row(new, False)
        if on_progress is not None:
            on_progress(len(rows), len(prompts))
    return [rows[index] for index in range(len(prompts))]


@default_torch_modes()
def _past(model: PreTrainedModel, batch: PromptBatch) -> DynamicCache | None:
    """The keys and values of what a batch's prompts begin with."""
    rows, columns = batch.inputs["input_ids"].shape
    with eval_mode(model):
        return past_of(model, batch.prefixes, rows, columns + max(batch.limits), batch.inputs["input_ids"].device)


@default_torch_modes()
@torch.no_grad()
def _continued(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: PromptBatch,
    config: GenerationConfig,
    processor: LogitsProcessor | None = None,
    criterion: StoppingCriteria | None = None,
    *,
    past: DynamicCache | None = None,
) -> list[list[int]]:
    """The new ids of each row of a batch, with padding behind those that are done; nothing is sampled.

    Args:
        past: of the shared prefixes, which are then not read again; it serves one call.
    """
    config.max_new_tokens, config.pad_token_id = max(batch.limits), pad_id(model, tokenizer)
    config.do_sample, config.use_cache = False, True
    generate: Any = model.generate
    with generating(model):
        ids: Tensor = generate(
            **batch.inputs,
            **({} if past is None else {"past_key_values": past}),
            generation_config=config,
            logits_processor=LogitsProcessorList([processor] if processor else []),
            stopping_criteria=StoppingCriteriaList([criterion] if criterion else []),
        )
    new: list[list[int]] = ids[:, batch.inputs["input_ids"].shape[1] :].tolist()
    return new


class _StopRows(StoppingCriteria):
    """Stops a row at its limit or once ``done`` says so of its text; ``lengths`` counts the tokens of each row then."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, batch: PromptBatch, done: EarlyStop | None) -> None:
        self._tokenizer, self._batch, self._done = tokenizer, batch, done
        self.lengths = list(batch.limits)

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        rows = input_ids[:, self._batch.inputs["input_ids"].shape[1] :].tolist()
        stopped = [
            len(row) >= limit or (self._done is not None and self._done(index, len(row), decode(self._tokenizer, row)))
            for index, limit, row in zip(self._batch.indices, self._batch.limits, rows, strict=True)
        ]
        self.lengths = [
            min(length, len(row)) if stop else length
            for length, row, stop in zip(self.lengths, rows, stopped, strict=True)
        ]
        return torch.tensor(stopped, device=input_ids.device)


class _WatchForNaN(LogitsProcessor):
    """``lengths`` counts the tokens each row had before its logits first held NaN, whose argmax means nothing."""

    def __init__(self, batch: PromptBatch) -> None:
        self._prompt_length = batch.inputs["input_ids"].shape[1]
        self.lengths = torch.tensor(batch.limits)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        new = input_ids.shape[1] - self._prompt_length
        broken = scores.isnan().any(-1).cpu()
        self.lengths = torch.where(broken, self.lengths.clamp(max=new), self.lengths)
        return scores


class _Draw(LogitsProcessor):
    """Draws a token from each row's distribution and makes it the only one that greedy decoding can take.

    It looks a uniform number up in the cumulative distribution: `torch.multinomial` draws one for every token of the
    vocabulary, and takes twenty times as long on a CPU.
    """

    def __init__(self, start: int, on_token: Callable[[int], None] | None) -> None:
        self._start, self._on_token = start, on_token

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        reached = scores.float().softmax(-1).cumsum(-1)
        if not torch.isfinite(reached[:, -1]).all():  # a sum is finite only if all of its terms are
            raise NonFiniteError("The logits are not finite; load the model in float32.")
        # A number below the whole sum always finds a token, and never one of probability 0.
        below = torch.rand(len(scores), 1, device=scores.device) * reached[:, -1:]
        drawn = torch.searchsorted(reached, below, right=True).clamp(max=scores.shape[-1] - 1)
        if self._on_token is not None:
            self._on_token(input_ids.shape[1] + 1 - self._start)
        return torch.full_like(scores, -torch.inf).scatter_(-1, drawn, 0.0)


@contextlib.contextmanager
def generating(model: PreTrainedModel, config: GenerationConfig | None = None) -> Iterator[None]:
    """Inside, the model generates in eval mode, and with these settings, or the defaults, in place of its own.

    ``generate`` fills the settings that a call leaves open from the model's own. The output layer's input is made
    contiguous.
    """
    owners = [owner for owner in (model, unwrapped(model)) if "generation_config" in vars(owner)]
    before = [owner.generation_config for owner in owners]
    for owner in owners:
        owner.generation_config = config or GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        with eval_mode(model), contiguous_head_inputs(model):
            yield
    finally:
        for owner, earlier in zip(owners, before, strict=True):
            owner.generation_config = earlier
