"""What a model can still do elsewhere: perplexity on held-out text, and ARC-Challenge, MMLU and TriviaQA by lm-eval.

All is zero-shot and on the model as it stands in memory. lm-eval's prompts are not those of LLM-Adapters, so these
figures never stand in one column with that protocol's. An answer that ends at once is wrong: a small chat model, asked
without its chat template, may score near 0 on TriviaQA, and then that figure cannot show what an edit took away.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.metrics.estimates import bootstrap_interval, wilson_interval
from roselora.bench.metrics.lm_eval_harness import ANSWER, CHOICE, run_tasks
from roselora.bench.metrics.perplexity import perplexity, text_losses
from roselora.bench.tasks import general_ability as ability_data
from roselora.bench.tasks.general_ability import Document
from roselora.errors import ConfigError


@dataclass(frozen=True)
class AbilityScore:
    """A figure with its 95% interval, over ``n`` questions or texts."""

    value: float
    low: float
    high: float
    n: int


PERPLEXITY = "perplexity"


@dataclass(frozen=True)
class _Task:
    read: Callable[[Path, int | None, int], list[Document]]
    config: Mapping[str, Any]
    metrics: Mapping[str, str]
    """What a figure is called, and what lm-eval calls it."""


_HARNESS = {
    "arc_challenge": _Task(
        ability_data.arc_challenge, CHOICE, {"arc_challenge": "acc", "arc_challenge_norm": "acc_norm"}
    ),
    "mmlu": _Task(ability_data.mmlu, CHOICE, {"mmlu": "acc"}),
    "triviaqa": _Task(ability_data.triviaqa, ANSWER, {"triviaqa": "exact_match"}),
}

TASKS = (PERPLEXITY, *_HARNESS)
"""Every task, by name."""


def capability(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data_dir: Path | None,
    *,
    tasks: Sequence[str] = TASKS,
    n: int | None = 100,
    seed: int = 0,
    texts: Sequence[str] | None = None,
) -> dict[str, AbilityScore]:
    """Measure a model that stands in memory, and leave it and its tokenizer as they are.

    Returns:
        what :func:`outcomes` gives, summarised by :func:`summarised`.

    Raises:
        ConfigError: as :func:`outcomes`, whose arguments these are.
    """
    found = outcomes(model, tokenizer, data_dir, tasks=tasks, n=n, seed=seed, texts=texts)
    return {figure: summarised(figure, values) for figure, values in found.items()}


def outcomes(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data_dir: Path | None,
    *,
    tasks: Sequence[str] = TASKS,
    n: int | None = 100,
    seed: int = 0,
    texts: Sequence[str] | None = None,
) -> dict[str, list[float]]:
    """Ask a model every question, and leave it and its tokenizer as they are.

    Args:
        data_dir: the folder with the benchmark data; may be None for perplexity on given texts.
        tasks: names of :data:`TASKS`.
        n: how many questions or texts of each task, all if None or if there are fewer; questions are drawn by
            ``seed``, so that equal arguments ask equal questions of every model, in one order.
        texts: held-out texts for perplexity; None takes AlpacaEval's reference answers from ``data_dir``.

    Returns:
        by name each question's 1 or 0: "arc_challenge" and "arc_challenge_norm" (by log-likelihood, and by
        log-likelihood a character), "mmlu" and "triviaqa"; as "perplexity" each text's mean loss, in nats a token.

    Raises:
        ConfigError: an unknown task, no data, data of another format, or lm-eval is not installed.
    """
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise ConfigError(f"There is no task {unknown[0]!r}: name some of {', '.join(TASKS)}.")
    if n is not None and n < 1:
        raise ConfigError(f"n is {n}: measure at least one question of each task.")
    found: dict[str, list[float]] = {}
    # Everything is read before anything is measured, so that a missing file costs no time.
    held_out = _held_out(data_dir, texts, n) if PERPLEXITY in tasks else []
    chosen = {name: _HARNESS[name] for name in tasks if name in _HARNESS}
    documents = {name: task.read(_needed(data_dir, name), n, seed) for name, task in chosen.items()}
    if held_out:
        found[PERPLEXITY] = _losses(model, tokenizer, held_out)
    if chosen:
        samples = run_tasks(model, tokenizer, {name: (chosen[name].config, documents[name]) for name in chosen})
        for name, task in chosen.items():
            for figure, metric in task.metrics.items():
                found[figure] = [float(bool(sample[metric])) for sample in samples[name]]
    return found


def summarised(figure: str, values: Sequence[float]) -> AbilityScore:
    """A figure of its questions' outcomes: exp of the mean loss with the bootstrap's interval, a rate with Wilson's."""
    if figure == PERPLEXITY:
        low, high = bootstrap_interval(values)
        return AbilityScore(perplexity(values), math.exp(low), math.exp(high), len(values))
    right = round(sum(values))
    return AbilityScore(right / len(values), *wilson_interval(right, len(values)), len(values))


def _needed(data_dir: Path | None, task: str) -> Path:
    if data_dir is None:
        raise ConfigError(f"{task} is read from a folder: point --data-dir at the one with the benchmark data.")
    return data_dir


def _held_out(data_dir: Path | None, texts: Sequence[str] | None, n: int | None) -> list[str]:
    found = ability_data.perplexity_texts(_needed(data_dir, PERPLEXITY), n) if texts is None else list(texts)[:n]
    if not found:
        raise ConfigError("There is no held-out text to measure perplexity on: give some texts.")
    return found


def _losses(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[float]:
    try:
        return text_losses(model, tokenizer, texts)
    except ValueError as error:
        raise ConfigError(str(error)) from None
