"""Ask a model a test set's questions: what it generates or chooses, and the answer that is read from that."""

import math
from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.tasks.task import AnyTask, Classification, Prediction, Question, Task
from roselora.errors import ConfigError
from roselora.models.generation import BATCH_SIZE, searched_texts


def shard(questions: Sequence[Question], index: int, count: int) -> list[Question]:
    """Every ``count``-th question from the ``index``-th on: over all indices, each question exactly once."""
    return list(questions[index::count])


def ask(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: AnyTask,
    questions: Sequence[Question],
    *,
    batch_size: int = BATCH_SIZE,
) -> Iterator[list[Prediction]]:
    """The model's answers, a batch at a time, so that each batch can be written before the next one is asked.

    Questions of similar length share a batch, the shortest first.

    Raises:
        ConfigError: a prompt has no tokens, or `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}: it must be at least 1.")
    ordered = sorted(questions, key=lambda question: question.length)
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        if isinstance(task, Classification):
            yield _classified(model, tokenizer, task, batch)
        else:
            yield _generated(model, tokenizer, task, batch)


def prediction_from(task: Task, question: Question, said: str) -> Prediction:
    """A generated text as the task reads and scores it."""
    answer = task.extract(said)
    score = math.nan if task.right is None else float(task.right(answer, question.gold))
    return Prediction(task.name, question.key, said, answer, score, question.gold)


def _generated(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task, batch: Sequence[Question]
) -> list[Prediction]:
    how = task.decoding
    texts = searched_texts(
        model,
        tokenizer,
        [question.prompt for question in batch],
        max_new_tokens=how.max_new_tokens,
        num_beams=how.num_beams,
        no_repeat_ngram_size=how.no_repeat_ngram_size,
        repetition_penalty=how.repetition_penalty,
        batch_size=len(batch),
    )
    return [prediction_from(task, question, text) for question, text in zip(batch, texts, strict=True)]


def _classified(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Classification, batch: Sequence[Question]
) -> list[Prediction]:
    """A classifier's labels, or a regression's values; texts that are too long for the model are truncated."""
    length = getattr(model.config, "max_position_embeddings", None)
    pairs = [question.pair for question in batch]
    inputs = tokenizer(
        [question.prompt for question in batch],
        None if None in pairs else pairs,
        padding=True,
        padding_side="right",  # encoders count positions from the first token
        truncation=length is not None,
        max_length=length,
        return_tensors="pt",
    ).to(model.device)
    with torch.no_grad():
        logits = model(**inputs).logits.float()  # (questions, labels), or (questions, 1) of a regression
    predictions = []
    for question, row in zip(batch, logits, strict=True):
        if task.labels:
            said = task.labels[int(row.argmax())]
            score = float(said == question.gold)
        else:
            score = row[0].item()
            said = f"{score:.6g}"
        predictions.append(Prediction(task.name, question.key, said, said, score, question.gold))
    return predictions
