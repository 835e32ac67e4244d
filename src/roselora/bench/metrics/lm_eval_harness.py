"""Run lm-eval on a model and questions in memory: nothing is fetched, and nothing of the model stays changed.

lm-eval sets the model's mode, ties its weights, gives its tokenizer a pad token, and generates by the model's own
settings; its larger entry point also seeds every random generator and asks the hub about the model. None of that may
leak into what comes after, so its `evaluate` is called alone and inside a guard.
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
from roselora.models.inference import eval_mode
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
"""The choice of the highest log-likelihood after the text (`acc`), or of the highest per character (`acc_norm`)."""

ANSWER: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_target": "answers",
    # As in lm-eval's own TriviaQA, so that figures can be laid side by side; it cuts "St. Louis" to "St".
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
    """Ask every question of every task, zero-shot; by task, lm-eval's record of each, in order.

    Args:
        tasks: by name, :data:`CHOICE` or :data:`ANSWER`, and the documents.

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
        reader = _saying_where_prompts_end(hflm) if hasattr(model, LOREFT) else hflm
        harness = reader(pretrained=model, tokenizer=tokenizer, batch_size=BATCH_SIZE)
        results = evaluate(harness, loaded, bootstrap_iters=0)
    return {name: sorted(results["samples"][name], key=lambda sample: sample["doc_id"]) for name in tasks}


def _saying_where_prompts_end(hflm: Any) -> Any:
    """lm-eval's reader of a model that does something to its prompts, and so must know which tokens they are.

    It weighs a continuation by one forward pass over context and continuation, beside longer ones with padding behind
    it, and tells the model neither apart. Here each is weighed by itself, and labels tell where its context ends.
    """

    class PromptAwareModel(hflm):  # type: ignore[misc]
        _continued = 0

        def _loglikelihood_tokens(self, requests: list[Any], *arguments: Any, **options: Any) -> list[Any]:
            found: list[Any] = []
            for request in requests:
                self._continued = len(request[2]) - 1  # the last token is weighed, and not read
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
    """Keep lm-eval's log and its bars, which have no switch, off the screen."""
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
    """Greedy settings inside, and weights that stay as they are; afterwards all is as it was."""
    owners = [owner for owner in {id(m): m for m in _with_base(model)}.values() if "generation_config" in vars(owner)]
    generation = [owner.generation_config for owner in owners]
    padding, side = tokenizer.pad_token, tokenizer.padding_side
    randomness = random.getstate()  # of which lm-eval draws when it builds its requests
    for owner in owners:
        owner.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id)  # type: ignore[no-untyped-call]
    # lm-eval ties the output to the input embeddings anew, which would undo a change to one of them.
    model.tie_weights = lambda *_, **__: None
    try:
        with eval_mode(model):
            yield
    finally:
        random.setstate(randomness)
        del model.tie_weights
        for owner, config in zip(owners, generation, strict=True):
            owner.generation_config = config
        tokenizer.pad_token, tokenizer.padding_side = padding, side


def _with_base(model: Any) -> list[Any]:
    """The model, and the transformers model inside it if it is a PEFT model."""
    unwrap = getattr(model, "get_base_model", None)
    return [model] if unwrap is None else [model, unwrap()]
