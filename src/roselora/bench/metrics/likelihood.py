"""Without a judge: which of an answer and the reference the untrained model holds for likelier, length accounted for.

This is no win rate. A base model holds its own greedy text for likely, good or bad; what can be read off is how far
training moved the answers from, or towards, what the base would have said.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from roselora.bench.metrics.estimates import BOOTSTRAP_SEED
from roselora.bench.records.run_files import appending, read_records
from roselora.bench.records.tuning_bench_records import Answered, LikelihoodPair
from roselora.bench.tasks.task import Question
from roselora.models.inference import evaluating
from roselora.models.tokenization import encode

RESAMPLES, NEWTON_STEPS = 1000, 25
RIDGE = 1.0
"""Of the length's coefficient, so that a few cases that length alone could part still give a figure."""


@torch.no_grad()
def weigh(
    folder: Path,
    answers: Iterable[Answered],
    questions: Sequence[Question],
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    on_progress: Callable[[int, int], None],
) -> None:
    """The model's mean log-likelihood a token of each answer that has none yet, and of its reference; kept at once.

    Texts that are longer than the model reads are cut.
    """
    max_length = int(getattr(model.config, "max_position_embeddings", None) or 2**31)
    kept = read_records(folder, LikelihoodPair)
    done = {(one.method, one.seed, one.key) for one in kept}
    references = {one.key: (one.reference, one.reference_tokens) for one in kept}  # one for all methods and seeds
    asked = {question.key: question for question in questions}
    everything = [answer for answer in answers if answer.prediction.key in asked]
    waiting = [a for a in everything if (a.method, a.seed, a.prediction.key) not in done]
    with evaluating(model), appending(folder, LikelihoodPair) as append:
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
    """Nats a token, and tokens, of the answer and the end after it."""
    start = encode(tokenizer, prompt)
    end = [*encode(tokenizer, answer, opening=False), tokenizer.eos_token_id]
    ids = torch.tensor([[*start, *end][:max_length]], device=next(model.parameters()).device)
    count = ids.shape[1] - len(start)
    if count < 1:
        return math.nan, 0  # a prompt that fills the model by itself
    logits = model(input_ids=ids).logits[0, len(start) - 1 : -1].float()
    return -float(functional.cross_entropy(logits, ids[0, len(start) :])), count


def length_controlled(weighed: Sequence[LikelihoodPair]) -> tuple[float, float, float, int] | None:
    """The share of answers that are likelier than their reference, at equal length: value, 95% interval, n.

    preferred ~ sigmoid(c + g * tanh(d)), where d is the difference of the lengths in tokens over its standard
    deviation; the share at d = 0 is sigmoid(c). The likelihood is maximised with a ridge on g and, of one half of a
    case, on c. The interval is the bootstrap's over questions. None if there is nothing to compare.
    """
    rows = [one for one in weighed if math.isfinite(one.own) and math.isfinite(one.reference)]
    if not rows:
        return None
    preferred = np.array([float(one.own > one.reference) for one in rows])
    lengths = np.array([one.own_tokens - one.reference_tokens for one in rows], dtype=np.float64)
    scaled = np.tanh(lengths / (lengths.std() or 1.0))
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    picks = (generator.integers(len(rows), size=len(rows)) for _ in range(RESAMPLES))
    low, high = np.quantile([_at_equal_length(preferred[pick], scaled[pick]) for pick in picks], [0.025, 0.975])
    return _at_equal_length(preferred, scaled), float(low), float(high), len(rows)


def _at_equal_length(preferred: Any, scaled: Any) -> float:
    """sigmoid(c) by Newton's method."""
    features = np.stack([np.ones_like(scaled), scaled], axis=1)
    penalty = np.diag([0.5, RIDGE])
    weights = np.zeros(2)
    for _ in range(NEWTON_STEPS):
        shares = 1 / (1 + np.exp(-features @ weights))
        gradient = features.T @ (preferred - shares) - penalty @ weights
        curvature = (features.T * (shares * (1 - shares))) @ features + penalty
        weights += np.linalg.solve(curvature, gradient)
    return float(1 / (1 + np.exp(-weights[0])))
