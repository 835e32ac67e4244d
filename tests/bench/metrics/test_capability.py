import importlib.util
import json
import logging
import random
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from roselora.bench.metrics.capability import TASKS, AbilityScore, ability_outcomes, ability_score
from roselora.bench.metrics.estimates import wilson_interval
from roselora.bench.metrics.perplexity import perplexity, text_losses
from roselora.bench.tasks import general_ability
from roselora.errors import ConfigError
from tests.bench.conftest import QUESTIONS, arc_record

Model = Callable[..., Any]

needs_lm_eval = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is in the bench extra")


@pytest.fixture
def data(ability_data: Path) -> Path:
    """The folder that the tests of this file read."""
    return ability_data


def capability(*arguments: Any, **options: Any) -> dict[str, AbilityScore]:
    """The score of every figure."""
    return {figure: ability_score(figure, own) for figure, own in ability_outcomes(*arguments, **options).items()}


def log_likelihood(model: Any, tokenizer: Any, context: str, continuation: str) -> float:
    """The sum of the continuation's log-probabilities, one question at a time and without padding."""
    start = len(tokenizer(context).input_ids)
    ids = tokenizer(context + continuation, return_tensors="pt").input_ids
    with torch.no_grad():
        rows = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
    return sum(float(rows[place - 1, ids[0, place]]) for place in range(start, ids.shape[1]))


@needs_lm_eval
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_arc_is_the_choice_of_the_highest_likelihood_as_computed_by_hand(
    seed: int, data: Path, tiny_model: Model, tiny_tokenizer: Any
) -> None:
    model = tiny_model(seed=seed)
    right, right_norm = 0, 0
    for question, choices, answer in QUESTIONS:
        scores = [
            log_likelihood(model, tiny_tokenizer, f"Question: {question}\nAnswer:", f" {choice}") for choice in choices
        ]
        per_character = [score / len(choice) for score, choice in zip(scores, choices, strict=True)]
        right += scores.index(max(scores)) == answer - 1
        right_norm += per_character.index(max(per_character)) == answer - 1
    measured = capability(model, tiny_tokenizer, data, tasks=["arc_challenge"])
    assert measured == {
        "arc_challenge": AbilityScore(right / 3, *wilson_interval(right, 3), 3),
        "arc_challenge_norm": AbilityScore(right_norm / 3, *wilson_interval(right_norm, 3), 3),
    }


@needs_lm_eval
def test_mmlu_scores_the_letters_after_question_and_choices(data: Path, tiny_model: Model, tiny_tokenizer: Any) -> None:
    model = tiny_model()
    right = 0
    for document in general_ability.mmlu(data, None, 0):
        scores = [log_likelihood(model, tiny_tokenizer, document["text"], f" {letter}") for letter in "ABCD"]
        right += scores.index(max(scores)) == 2
    assert capability(model, tiny_tokenizer, data, tasks=["mmlu"])["mmlu"].value == right / 9


def test_perplexity_is_over_the_long_reference_answers(data: Path, tiny_model: Model, tiny_tokenizer: Any) -> None:
    model = tiny_model()
    texts = ["Snow is white and coal is black. " * 8, "The opposite of hot is cold. " * 8]
    measured = capability(model, tiny_tokenizer, data, tasks=["perplexity"])["perplexity"]
    assert measured.value == perplexity(text_losses(model, tiny_tokenizer, texts))
    assert measured.n == 2
    assert measured.low <= measured.value <= measured.high


@needs_lm_eval
def test_nothing_is_asked_of_the_network_printed_or_left_changed(
    data: Path,
    tiny_model: Model,
    tiny_tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    asked: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> Any:
        asked.append(arguments)
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    model = tiny_model(tie_word_embeddings=True)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() + 1.0)  # untied by hand
    model.name_or_path = "owner/model"
    model.train()
    model.model.layers[0].train(False)
    generation = model.generation_config
    modes = [module.training for module in model.modules()]
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    tokenizer_state = (tiny_tokenizer.padding_side, tiny_tokenizer.pad_token, tiny_tokenizer.truncation_side)
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    randoms = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()
    level = logging.getLogger("lm_eval").level
    capfd.readouterr()

    capability(model, tiny_tokenizer, data, n=1)

    assert asked == []
    assert capfd.readouterr() == ("", "")
    assert model.generation_config is generation
    assert "tie_weights" not in vars(model)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    after = (tiny_tokenizer.padding_side, tiny_tokenizer.pad_token, tiny_tokenizer.truncation_side)
    assert after == tokenizer_state
    assert random.getstate() == randoms[0]
    assert torch.equal(torch.get_rng_state(), randoms[1])
    assert np.random.get_state()[1].tolist() == randoms[2]
    assert logging.getLogger("lm_eval").level == level


@pytest.mark.parametrize(
    ("task", "file", "text"),
    [
        ("arc_challenge", "commonsense/ARC-Challenge_test.json", '[{"instruction": "Which?", "answer": "answer1"}]'),
        ("arc_challenge", "commonsense/ARC-Challenge_test.json", json.dumps([arc_record("Which?", ("a", "b"), 3)])),
        ("arc_challenge", "commonsense/ARC-Challenge_test.json", "{"),
        ("mmlu", "forgetting/mmlu/test/law_test.csv", "Which?,a,b,c,D\n"),
        ("mmlu", "forgetting/mmlu/test/law_test.csv", "Which?,a,b,c,d,E\n"),
        ("triviaqa", "forgetting/triviaqa_1k.jsonl", '{"question": "Which?"}\n'),
        ("triviaqa", "forgetting/triviaqa_1k.jsonl", '{"question": "Which?", "golden_answers": []}\n'),
        ("perplexity", "instruct/alpaca_eval_text_davinci_003.json", '[{"text": "a"}]'),
        ("perplexity", "instruct/alpaca_eval_text_davinci_003.json", '[{"output": "short"}]'),
    ],
)
def test_foreign_data_is_refused_before_anything_is_measured(task: str, file: str, text: str, data: Path) -> None:
    (data / file).write_text(text)
    with pytest.raises(ConfigError) as error:
        capability(None, None, data, tasks=[task])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("task", TASKS)
def test_missing_data_says_where_to_point(task: str, tmp_path: Path) -> None:
    for folder in (tmp_path, None):
        with pytest.raises(ConfigError, match="point --data-dir at"):
            capability(None, None, folder, tasks=[task])


def test_an_unknown_task_and_an_empty_draw_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no task 'arc': name some of perplexity, arc_challenge, mmlu, triviaqa"):
        capability(None, None, tmp_path, tasks=["arc"])
    with pytest.raises(ConfigError, match="n is 0"):
        capability(None, None, tmp_path, n=0)


def test_without_lm_eval_the_error_names_the_extra(
    data: Path, tiny_model: Model, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.evaluator", None)
    with pytest.raises(ConfigError, match=r"pip install 'roselora\[bench\]'"):
        capability(tiny_model(), tiny_tokenizer, data, tasks=["mmlu"])
