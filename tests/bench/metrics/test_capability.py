import csv
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

from roselora.bench.metrics import lm_eval_harness as harness
from roselora.bench.metrics.capability import TASKS, AbilityScore, capability
from roselora.bench.metrics.intervals import wilson_interval
from roselora.bench.metrics.perplexity import perplexity, text_losses
from roselora.bench.tasks import general_ability as ability_data
from roselora.errors import ConfigError
from roselora.training.loreft import IGNORED, LoReftConfig, add_loreft

Model = Callable[..., Any]

needs_lm_eval = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is in the bench extra")

QUESTIONS = (
    ("What is the capital of France?", ("London", "Paris", "Oslo", "a town"), 2),
    ("Which metal has the symbol Fe?", ("iron", "gold"), 1),
    ("What falls in winter?", ("snow", "coal and other stones", "hay"), 1),
)


def arc_record(question: str, choices: tuple[str, ...], answer: int) -> dict[str, str]:
    marked = " ".join(f"Answer{number}: {choice}" for number, choice in enumerate(choices, 1))
    names = "/".join(f"answer{number}" for number in range(1, len(choices) + 1))
    asked = f"Please choose the correct answer to the question: {question}\n\n{marked}\n\nAnswer format: {names}"
    return {"instruction": asked, "input": "", "output": "", "answer": f"answer{answer}"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of the benchmarks' shapes: 3 ARC questions, 3 subjects of MMLU, 3 trivia, 2 long texts and a short."""
    for name in ("commonsense", "forgetting/mmlu/test", "instruct"):
        (tmp_path / name).mkdir(parents=True)
    records = [arc_record(*question) for question in QUESTIONS]
    (tmp_path / "commonsense" / "ARC-Challenge_test.json").write_text(json.dumps(records))
    for subject, count in {"law": 1, "logic": 4, "art": 4}.items():
        with (tmp_path / "forgetting" / "mmlu" / "test" / f"{subject}_test.csv").open("w", newline="") as file:
            rows = [
                [f"{subject} {number},\nwhich?", "one", "two", "three\u2028", "four", "C"] for number in range(count)
            ]
            csv.writer(file).writerows(rows)
    trivia = [
        {"id": "1", "question": "The capital of France is", "golden_answers": ["Rome", "paris"]},
        {"id": "2", "question": '"Who said ""hot is cold""?"', "golden_answers": ["nobody", ""]},
        {"id": "3", "question": "Where is it?", "golden_answers": ["here"]},
    ]
    lines = "".join(json.dumps(line) + "\n" for line in trivia)
    (tmp_path / "forgetting" / "triviaqa_1k.jsonl").write_text(lines)
    outputs = ["Snow is white and coal is black. " * 8, "short", "The opposite of hot is cold. " * 8]
    texts = json.dumps([{"output": output} for output in outputs])
    (tmp_path / "instruct" / "alpaca_eval_text_davinci_003.json").write_text(texts)
    return tmp_path


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
    for document in ability_data.mmlu(data, None, 0):
        scores = [log_likelihood(model, tiny_tokenizer, document["text"], f" {letter}") for letter in "ABCD"]
        right += scores.index(max(scores)) == 2
    assert capability(model, tiny_tokenizer, data, tasks=["mmlu"])["mmlu"].value == right / 9


@needs_lm_eval
def test_triviaqa_counts_a_greedy_answer_that_is_any_alias(data: Path, world_model: Any, tiny_tokenizer: Any) -> None:
    # The tiny model knows its sentences as they stand, not behind "Question:".
    bare = [{"text": "The capital of France is", "answers": ["Rome", "paris"]}]
    bare.append({"text": "The capital of Spain is", "answers": ["Rome", "Lisbon"]})
    samples = harness.run_tasks(world_model, tiny_tokenizer, {"trivia": (harness.ANSWER, bare)})["trivia"]
    assert [sample["exact_match"] for sample in samples] == [1.0, 0.0]
    assert [sample["filtered_resps"] for sample in samples] == [["Paris"], ["Madrid"]]
    measured = capability(world_model, tiny_tokenizer, data, tasks=["triviaqa"], n=2)
    assert measured["triviaqa"].n == 2


def test_perplexity_is_over_the_long_reference_answers_or_over_given_texts(
    data: Path, tiny_model: Model, tiny_tokenizer: Any
) -> None:
    model = tiny_model()
    texts = ["Snow is white and coal is black. " * 8, "The opposite of hot is cold. " * 8]
    measured = capability(model, tiny_tokenizer, data, tasks=["perplexity"])["perplexity"]
    assert measured.value == perplexity(text_losses(model, tiny_tokenizer, texts))
    assert measured.n == 2
    assert measured.low <= measured.value <= measured.high
    given = capability(model, tiny_tokenizer, None, tasks=["perplexity"], texts=["abc", "def", "ghi"], n=2)
    assert given["perplexity"].value == perplexity(text_losses(model, tiny_tokenizer, ["abc", "def"]))


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


def test_arc_is_parsed_back_from_llm_adapters_instructions(data: Path) -> None:
    first, second, third = ability_data.arc_challenge(data, None, 0)
    assert first == {
        "text": "Question: What is the capital of France?\nAnswer:",
        "choices": ["London", "Paris", "Oslo", "a town"],
        "answer": 1,
    }
    assert (second["choices"], second["answer"]) == (["iron", "gold"], 0)
    assert third["choices"][1] == "coal and other stones"


def test_trivia_loses_the_quoting_of_the_table_that_it_came_from(data: Path) -> None:
    documents = ability_data.triviaqa(data, None, 0)
    assert documents[0] == {"text": "Question: The capital of France is\nAnswer:", "answers": ["Rome", "paris"]}
    assert documents[1] == {"text": 'Question: Who said "hot is cold"?\nAnswer:', "answers": ["nobody"]}


def test_mmlu_is_drawn_evenly_over_its_subjects_by_the_seed(data: Path) -> None:
    def subjects(n: int | None, seed: int = 0) -> list[str]:
        return [document["text"].split()[0] for document in ability_data.mmlu(data, n, seed)]

    assert sorted(subjects(3)) == ["art", "law", "logic"]
    assert sorted(subjects(5)) == ["art", "art", "law", "logic", "logic"]
    assert len(subjects(None)) == 9
    assert ability_data.mmlu(data, 5, 1) == ability_data.mmlu(data, 5, 1)
    drawn = [[document["text"] for document in ability_data.mmlu(data, 5, seed)] for seed in range(4)]
    assert any(texts != drawn[0] for texts in drawn[1:])
    document = next(d for d in ability_data.mmlu(data, None, 0) if d["text"].startswith("art 0"))
    assert document["text"] == "art 0,\nwhich?\nA. one\nB. two\nC. three\u2028\nD. four\nAnswer:"
    assert document["answer"] == 2


def test_questions_are_drawn_by_the_seed_in_the_files_order(data: Path) -> None:
    every = ability_data.arc_challenge(data, None, 0)
    drawn = [ability_data.arc_challenge(data, 2, seed) for seed in range(8)]
    assert all(len(two) == 2 and every.index(two[0]) < every.index(two[1]) for two in drawn)
    assert len({json.dumps(two) for two in drawn}) > 1
    assert drawn[3] == ability_data.arc_challenge(data, 2, 3)


def test_a_users_texts_are_parted_by_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("\nOne text\nof two lines.\n\n  \nAnother.\n")
    assert ability_data.read_texts(path) == ["One text\nof two lines.", "Another."]
    path.write_text(" \n\n")
    with pytest.raises(ConfigError, match=r"texts\.txt holds no text"):
        ability_data.read_texts(path)
    with pytest.raises(ConfigError, match=r"none\.txt cannot be read"):
        ability_data.read_texts(tmp_path / "none.txt")


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
        capability(None, None, data, tasks=[task])  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("task", TASKS)
def test_missing_data_says_where_to_point(task: str, tmp_path: Path) -> None:
    for folder in (tmp_path, None):
        with pytest.raises(ConfigError, match="point --data-dir at"):
            capability(None, None, folder, tasks=[task])  # type: ignore[arg-type]


def test_an_unknown_task_and_an_empty_draw_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no task 'arc': name some of perplexity, arc_challenge, mmlu, triviaqa"):
        capability(None, None, tmp_path, tasks=["arc"])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="n is 0"):
        capability(None, None, tmp_path, n=0)  # type: ignore[arg-type]


def test_without_lm_eval_the_error_names_the_extra(
    data: Path, tiny_model: Model, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.evaluator", None)
    with pytest.raises(ConfigError, match=r"pip install 'roselora\[bench\]'"):
        capability(tiny_model(), tiny_tokenizer, data, tasks=["mmlu"])


@needs_lm_eval
def test_a_model_that_acts_on_prompts_is_told_where_they_end_whatever_stands_beside_them(
    world_model: Any, tiny_tokenizer: Any
) -> None:
    torch.manual_seed(0)
    model = add_loreft(world_model, LoReftConfig(rank=2, first=2, last=2))
    for parameter in model.get_submodule("loreft").parameters():
        parameter.data.add_(torch.randn_like(parameter))
    documents = [
        {"text": text, "choices": choices, "answer": 0}
        for text, choices in (
            ("Snow is", [" white", " black and more"]),
            ("The capital of France is", [" Paris", " Au"]),
        )
    ]
    samples = harness.run_tasks(model, tiny_tokenizer, {"choose": (harness.CHOICE, documents)})["choose"]
    for document, sample in zip(documents, samples, strict=True):
        for choice, response in zip(document["choices"], sample["filtered_resps"], strict=True):
            prompt, said = (tiny_tokenizer(text).input_ids for text in (document["text"], f" {choice}"))
            tokens = torch.tensor([prompt + said])
            labels = torch.tensor([[IGNORED] * len(prompt) + said])
            with torch.no_grad():
                weights = model(tokens, labels=labels).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            expected = float(weights[range(len(said)), said].sum())
            assert response[0] == pytest.approx(expected, abs=1e-3)
