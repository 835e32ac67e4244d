import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from roselora.bench.metrics import likelihood
from roselora.bench.metrics.likelihood import length_controlled, measure_likelihoods
from roselora.bench.records.run_files import read_records
from roselora.bench.records.tuning_bench_records import Answered, LikelihoodPair
from roselora.bench.tasks.task import Prediction, Question
from roselora.models.loading import load


def weighed(preferred: bool, longer_by: int, key: int) -> LikelihoodPair:
    return LikelihoodPair("rose", 0, str(key), -1.0 if preferred else -3.0, 50 + longer_by, -2.0, 50)


def test_without_a_difference_of_length_it_is_the_share_drawn_to_a_half() -> None:
    cases = [weighed(number < 15, 0, number) for number in range(20)]
    found = length_controlled(cases)
    assert found is not None
    value, low, high, n = found
    # The penalised score at the maximum is 0: 15 - 20 s - 0.5 c = 0 for s = sigmoid(c).
    logit = math.log(value / (1 - value))
    assert 15 - 20 * value - 0.5 * logit == pytest.approx(0, abs=1e-9)
    assert low < value < high
    assert n == 20


def test_what_length_alone_explains_is_not_counted_as_preference() -> None:
    cases = [weighed(number % 2 == 0, 40 if number % 2 == 0 else -40, number) for number in range(40)]
    more_long_ones = [*cases, *(weighed(True, 40, 100 + number) for number in range(40))]
    found = length_controlled(more_long_ones)
    assert found is not None
    plain = np.mean([one.own > one.reference for one in more_long_ones])
    assert plain == pytest.approx(0.75)
    assert abs(found[0] - 0.5) < 0.6 * abs(plain - 0.5)  # the ridge leaves length a part


def test_answers_without_a_token_are_left_out_and_none_is_no_figure() -> None:
    empty = LikelihoodPair("rose", 0, "0", math.nan, 0, -1.0, 3)
    assert length_controlled([empty]) is None
    found = length_controlled([empty, weighed(True, 0, 1)])
    assert found is not None
    assert found[3] == 1


def test_weights_are_mean_log_likelihoods_of_the_answer_and_its_end(tmp_path: Path, tiny_model_folder: Path) -> None:
    loaded = load(tiny_model_folder)
    model: Any = loaded.model
    question = Question("f:0", "Name a metal", "Iron")
    answers = [Answered("rose", 1, Prediction("alpaca_eval", "f:0", "", "A tin can", math.nan, "Iron"))]
    for _ in range(2):  # the second finds nothing to do
        measure_likelihoods(tmp_path, answers, [question], model, loaded.tokenizer, lambda done, of: None)
    (found,) = read_records(tmp_path, LikelihoodPair)
    for text, value, tokens in (
        ("A tin can", found.own, found.own_tokens),
        ("Iron", found.reference, found.reference_tokens),
    ):
        ids = loaded.tokenizer("Name a metal").input_ids
        end = [*loaded.tokenizer(text, add_special_tokens=False).input_ids, loaded.tokenizer.eos_token_id]
        logits = model(input_ids=torch.tensor([ids + end])).logits[0].log_softmax(-1)
        each = [logits[len(ids) + place - 1, token].item() for place, token in enumerate(end)]
        assert value == pytest.approx(sum(each) / len(each), abs=1e-5)
        assert tokens == len(end)


def test_a_reference_is_weighed_once_for_all_methods_and_seeds(
    tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, texts = load(tiny_model_folder), []
    weigh_one = likelihood._likelihood

    def counted(model: Any, tokenizer: Any, prompt: str, answer: str, length: int) -> tuple[float, int]:
        texts.append(answer)
        return weigh_one(model, tokenizer, prompt, answer, length)

    monkeypatch.setattr(likelihood, "_likelihood", counted)
    question = Question("f:0", "Name a metal", "Iron")
    answers = [
        Answered(method, seed, Prediction("alpaca_eval", "f:0", "", f"{method} {seed}", math.nan, "Iron"))
        for method in ("rose", "lora")
        for seed in (0, 1)
    ]
    for some in (answers[:2], answers):  # the second call goes on
        measure_likelihoods(tmp_path, some, [question], loaded.model, loaded.tokenizer, lambda done, of: None)
    assert texts.count("Iron") == 1
    assert len({(one.reference, one.reference_tokens) for one in read_records(tmp_path, LikelihoodPair)}) == 1
