"""What a model can still do elsewhere: perplexity on other text, and ARC-Challenge, MMLU and TriviaQA by lm-eval.

Everything is zero-shot and measured on the model in memory. lm-eval's prompts are not LLM-Adapters', so these figures
are not comparable with that protocol's. An answer that ends at once is wrong: a small chat model that is asked without
its chat template may score near 0 on TriviaQA, and then that figure cannot show what an edit destroyed.
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
from roselora.bench.tasks import general_ability
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
    """lm-eval's metric of each figure."""


_HARNESS = {
    "arc_challenge": _Task(
        general_ability.arc_challenge, CHOICE, {"arc_challenge": "acc", "arc_challenge_norm": "acc_norm"}
    ),
    "mmlu": _Task(general_ability.mmlu, CHOICE, {"mmlu": "acc"}),
    "triviaqa": _Task(general_ability.triviaqa, ANSWER, {"triviaqa": "exact_match"}),
}

TASKS = (PERPLEXITY, *_HARNESS)
"""Every task, by name."""


def ability_outcomes(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data_dir: Path | None,
    *,
    tasks: Sequence[str] = TASKS,
    n: int | None = 100,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Ask a model every question, and leave it and its tokenizer unchanged.

    Args:
        data_dir: the folder with the benchmark data.
        tasks: names of :data:`TASKS`.
        n: how many questions or texts of each task; all if None or if there are fewer. They are drawn by ``seed``, so
            equal arguments ask every model the same questions, in the same order.

    Returns:
        The outcome of each question, 1 or 0, by figure: "arc_challenge" and "arc_challenge_norm" (by log-likelihood,
        and by log-likelihood per character), "mmlu" and "triviaqa"; as "perplexity" the mean loss of each text, in nats
        per token.

    Raises:
        ConfigError: an unknown task, no data, data of another format, or lm-eval is not installed.
    """
    if unknown := [task for task in tasks if task not in TASKS]:
        raise ConfigError(f"There is no task {unknown[0]!r}: name some of {', '.join(TASKS)}.")
    if n is not None and n < 1:
        raise ConfigError(f"n is {n}: measure at least one question of each task.")
    if data_dir is None:
        raise ConfigError(f"{tasks[0]} is read from a folder: point --data-dir at the one with the benchmark data.")
    found: dict[str, list[float]] = {}
    # Everything is read before anything is measured, so that a missing file costs no time.
    texts = general_ability.perplexity_texts(data_dir, n) if PERPLEXITY in tasks else []
    chosen = {name: task for name, task in _HARNESS.items() if name in tasks}
    documents = {name: task.read(data_dir, n, seed) for name, task in chosen.items()}
    if texts:
        found[PERPLEXITY] = _losses(model, tokenizer, texts)
    if chosen:
        samples = run_tasks(model, tokenizer, {name: (task.config, documents[name]) for name, task in chosen.items()})
        for name, task in chosen.items():
            for figure, metric in task.metrics.items():
                found[figure] = [float(bool(sample[metric])) for sample in samples[name]]
    return found


def ability_score(figure: str, outcomes: Sequence[float]) -> AbilityScore:
    """Perplexity, exp of the mean loss, with the bootstrap's interval; any other figure as a rate with Wilson's.

    >>> ability_score("mmlu", [1.0, 0.0, 1.0, 1.0]).value
    0.75
    """
    if figure == PERPLEXITY:
        low, high = bootstrap_interval(outcomes)
        return AbilityScore(perplexity(outcomes), math.exp(low), math.exp(high), len(outcomes))
    right = round(sum(outcomes))
    return AbilityScore(right / len(outcomes), *wilson_interval(right, len(outcomes)), len(outcomes))


def _losses(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[float]:
    try:
        return text_losses(model, tokenizer, texts)
    except ValueError as error:
        raise ConfigError(str(error)) from None
