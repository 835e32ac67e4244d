"""Run lm-eval on a model and questions in memory: nothing is downloaded, and the model is left unchanged.

lm-eval sets the model's mode, ties its weights, gives its tokenizer a pad token, and generates with the model's own
settings; its larger entry point also seeds every random generator and asks the hub about the model. None of that may
affect what follows, so only its `evaluate` is called, inside a context that restores everything.
"""

import contextlib
import io
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.tasks.general_ability import Document
from roselora.errors import ConfigError
from roselora.models.generation import generating
from roselora.training.loreft import IGNORED
from roselora.training.loreft import NAME as LOREFT

BATCH_SIZE = 16

CHOICE: dict[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
    "metric_list": [
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
    ],
}
"""The choice with the highest log-likelihood after the text (`acc`), or with the highest per character (`acc_norm`)."""

ANSWER: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_target": "answers",
    # As in lm-eval's own TriviaQA, so that figures are comparable; it cuts "St. Louis" to "St".
    "generation_kwargs": {"until": ["\n", ".", ","], "do_sample": False, "max_gen_toks": 32},
    "filter_list": [
        {"name": "stripped", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]},
    ],
    "metric_list": [
        {
            "metric": "exact_match",
            "aggregation": "mean",
            "higher_is_better": True,
            "ignore_case": True,
            "ignore_punctuation": True,
        }
    ],
}
"""The greedy answer up to the end of its line or clause equals one of the answers, whatever its case."""


def run_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Mapping[str, tuple[Mapping[str, Any], Sequence[Document]]],
) -> dict[str, list[dict[str, Any]]]:
    """Ask every question of every task, zero-shot.

    Args:
        tasks: by name, :data:`CHOICE` or :data:`ANSWER`, and the documents.

    Returns:
        by task, lm-eval's record of each question, in order.

    Raises:
        ConfigError: lm-eval is not installed.
    """
    evaluate, hflm, manager, dataset = _lm_eval()
    configs = [
        {
            **config,
            "task": name,
            "custom_dataset": lambda rows=rows, **_: {"test": dataset.from_list([dict(row) for row in rows])},
            "test_split": "test",
            "doc_to_text": "text",
            "num_fewshot": 0,
        }
        for name, (config, rows) in tasks.items()
    ]
    with _quiet(), _unchanged(model, tokenizer):
        loaded = manager(include_defaults=False).load(configs)
        harness_class = _prompt_aware(hflm) if hasattr(model, LOREFT) else hflm
        harness = harness_class(pretrained=model, tokenizer=tokenizer, batch_size=BATCH_SIZE)
        results = evaluate(harness, loaded, bootstrap_iters=0)
    return {name: sorted(results["samples"][name], key=lambda sample: sample["doc_id"]) for name in tasks}


def _prompt_aware(hflm: Any) -> Any:
    """lm-eval's model class for a LoReFT model, which intervenes on prompt tokens and so must know which they are.

    lm-eval scores a continuation in one forward pass over context and continuation, batched with longer ones and padded
    on the right, and gives the model neither the mask nor the length of the context. Here each is scored alone, and
    labels tell the model where its context ends.
    """

    class PromptAwareModel(hflm):  # type: ignore[misc]
        _continued = 0

        def _loglikelihood_tokens(self, requests: list[Any], *arguments: Any, **options: Any) -> list[Any]:
            found: list[Any] = []
            for request in requests:
                self._continued = len(request[2]) - 1  # the last token is scored, but not read
                found += super()._loglikelihood_tokens([request], *arguments, **{**options, "disable_tqdm": True})
            return found

        def _model_call(self, inps: Tensor, attn_mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
            labels = inps.clone()
            labels[:, : inps.shape[1] - self._continued] = IGNORED
            with torch.no_grad():
                logits: Tensor = self.model(inps, labels=labels).logits
            return logits

    return PromptAwareModel


def _lm_eval() -> tuple[Any, Any, Any, Any]:
    try:
        from datasets import Dataset
        from lm_eval.evaluator import evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ConfigError(
            f"General ability is measured by lm-eval, and {error.name} is not installed: pip install 'roselora[bench]'."
        ) from None
    return evaluate, HFLM, TaskManager, Dataset


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide lm-eval's log and its progress bars, which cannot be switched off."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _unchanged(model: Any, tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Set greedy generation settings, keep the weights untied, and restore everything afterwards."""
    greedy = GenerationConfig(eos_token_id=tokenizer.eos_token_id)  # type: ignore[no-untyped-call]
    padding, side = tokenizer.pad_token, tokenizer.padding_side
    randomness = random.getstate()  # lm-eval draws from it when it builds its requests
    # lm-eval ties the output to the input embeddings again, which would undo a change to one of them.
    model.tie_weights = lambda *_, **__: None
    try:
        with generating(model, greedy):
            yield
    finally:
        random.setstate(randomness)
        del model.tie_weights
        tokenizer.pad_token, tokenizer.padding_side = padding, side
