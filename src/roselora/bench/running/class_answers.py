"""A test set's questions put to a classifier or a regression."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.tasks.task import Classification, Prediction, Question


def classified(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Classification, questions: Sequence[Question]
) -> list[Prediction]:
    """What the model makes of the texts, read together; texts that are longer than it reads are cut."""
    length = getattr(model.config, "max_position_embeddings", None)
    pairs = [question.pair for question in questions]
    batch = tokenizer(
        [question.prompt for question in questions],
        None if None in pairs else pairs,
        padding=True,
        padding_side="right",  # encoders count positions from the first token
        truncation=length is not None,
        max_length=length,
        return_tensors="pt",
    ).to(model.device)
    with torch.no_grad():
        logits = model(**batch).logits.float()
    if not task.labels:
        return [
            Prediction(task.name, question.key, f"{value:.6g}", f"{value:.6g}", value, question.gold)
            for question, value in zip(questions, logits[:, 0].tolist(), strict=True)
        ]
    said = [task.labels[index] for index in logits.argmax(-1).tolist()]
    return [
        Prediction(task.name, question.key, label, label, float(label == question.gold), question.gold)
        for question, label in zip(questions, said, strict=True)
    ]
