"""Without a judge: whether the untrained model finds an answer likelier than the reference, at equal length.

This is not a win rate. A base model finds its own greedy text likely, good or bad; the figure shows how far training
has moved the answers away from, or towards, what the base model would have answered.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from roselora.bench.metrics.estimates import bootstrap_interval_of
from roselora.bench.records.run_files import appending, read_records
from roselora.bench.records.tuning_bench_records import Answered, LikelihoodPair
from roselora.bench.tasks.task import Question
from roselora.models.inference import eval_mode
from roselora.models.tokenization import encode

RESAMPLES, NEWTON_STEPS = 1000, 25
RIDGE = 1.0
"""The penalty of the length's coefficient: without it, a few cases that length alone separates have no maximum."""


@torch.no_grad()
def measure_likelihoods(
    folder: Path,
    answers: Iterable[Answered],
    questions: Sequence[Question],
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    on_progress: Callable[[int, int], None],
) -> None:
    """Append to a run's folder the mean log-likelihood per token of each new answer, and of its reference.

    Texts are cut at the model's maximum length. Each pair is on the disk before the next one is measured.
    """
    max_length = int(getattr(model.config, "max_position_embeddings", None) or 2**31)
    known = read_records(folder, LikelihoodPair)
    done = {(one.method, one.seed, one.key) for one in known}
    references = {one.key: (one.reference, one.reference_tokens) for one in known}  # one for all methods and seeds
    asked = {question.key: question for question in questions}
    everything = [answer for answer in answers if answer.prediction.key in asked]
    waiting = [a for a in everything if (a.method, a.seed, a.prediction.key) not in done]
    with eval_mode(model), appending(folder, LikelihoodPair) as append:
        for number, answer in enumerate(waiting, start=len(everything) - len(waiting)):
            on_progress(number, len(everything))
            question = asked[answer.prediction.key]
            own = _likelihood(model, tokenizer, question.prompt, answer.prediction.answer, max_length)
            if question.key not in references:
                references[question.key] = _likelihood(model, tokenizer, question.prompt, question.gold, max_length)
            append(LikelihoodPair(answer.method, answer.seed, question.key, *own, *references[question.key]))
    on_progress(len(everything), len(everything))


def _likelihood(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str, max_length: int
) -> tuple[float, int]:
    """The mean log-likelihood in nats, and the number, of the tokens of the answer and the EOS after it."""
    start = encode(tokenizer, prompt)
    end = [*encode(tokenizer, answer, opening=False), tokenizer.eos_token_id]
    ids = torch.tensor([[*start, *end][:max_length]], device=next(model.parameters()).device)
    count = ids.shape[1] - len(start)
    if count < 1:
        return math.nan, 0  # the prompt alone reaches the maximum length
    logits = model(input_ids=ids).logits[0, len(start) - 1 : -1].float()
    return -float(functional.cross_entropy(logits, ids[0, len(start) :])), count


def length_controlled(pairs: Sequence[LikelihoodPair]) -> tuple[float, float, float, int] | None:
    """The share of answers that are likelier than their reference, at equal length: value, 95% interval, n.

    The regression is preferred ~ sigmoid(c + g * tanh(d)), where d is the difference of the lengths in tokens over its
    standard deviation; the share at d = 0 is sigmoid(c). The likelihood is maximised with a ridge penalty on g and, of
    half a case, on c. The interval is the bootstrap's over questions. None if there is nothing to compare.
    """
    rows = [one for one in pairs if math.isfinite(one.own) and math.isfinite(one.reference)]
    if not rows:
        return None
    preferred = np.array([float(one.own > one.reference) for one in rows])
    lengths = np.array([one.own_tokens - one.reference_tokens for one in rows], dtype=np.float64)
    scaled = np.tanh(lengths / (lengths.std() or 1.0))
    interval = bootstrap_interval_of(
        lambda drawn: _at_equal_length(preferred[drawn], scaled[drawn]), len(rows), resamples=RESAMPLES
    )
    return _at_equal_length(preferred, scaled), *interval, len(rows)


def _at_equal_length(preferred: Any, scaled: Any) -> float:
    """sigmoid(c), found by Newton's method.

    Args:
        preferred: (n,) 1 or 0.
        scaled: (n,) tanh(d).
    """
    features = np.stack([np.ones_like(scaled), scaled], axis=1)
    penalty = np.diag([0.5, RIDGE])
    weights = np.zeros(2)
    for _ in range(NEWTON_STEPS):
        shares = 1 / (1 + np.exp(-features @ weights))
        gradient = features.T @ (preferred - shares) - penalty @ weights
        curvature = (features.T * (shares * (1 - shares))) @ features + penalty
        weights += np.linalg.solve(curvature, gradient)
    return float(1 / (1 + np.exp(-weights[0])))
