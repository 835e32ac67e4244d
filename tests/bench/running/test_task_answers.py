from typing import Any

import pytest

from roselora.bench.running.task_answers import ask, prediction_from, shard
from roselora.bench.tasks.task import Decoding, Question, Task, TaskData
from roselora.errors import ConfigError
from roselora.models.generation import searched_texts


def task(decoding: Decoding) -> Task:
    return Task(
        "toy", "loreft", lambda folder: TaskData((), {}, {}), decoding, str.strip, lambda said, gold: said == gold
    )


QUESTIONS = [
    Question(f"file:{i}", prompt, "Paris.") for i, prompt in enumerate(("The capital of France is", "Hi", "x y"))
]


def test_every_question_is_in_one_shard_and_in_no_other() -> None:
    questions = [Question(str(number), "?", "") for number in range(11)]
    shards = [shard(questions, index, 4) for index in range(4)]
    assert sorted(int(question.key) for part in shards for question in part) == list(range(11))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize("beams", [1, 2])
def test_answers_are_those_of_one_prompt_at_a_time(world_model: Any, tiny_tokenizer: Any, beams: int) -> None:
    toy = task(Decoding(max_new_tokens=4, num_beams=beams))
    batches = list(ask(world_model, tiny_tokenizer, toy, QUESTIONS, batch_size=2))
    assert [len(batch) for batch in batches] == [2, 1]
    found = {prediction.key: prediction for batch in batches for prediction in batch}
    assert set(found) == {question.key for question in QUESTIONS}
    for question in QUESTIONS:
        (alone,) = searched_texts(world_model, tiny_tokenizer, [question.prompt], max_new_tokens=4, num_beams=beams)
        assert found[question.key] == prediction_from(toy, question, alone)


def test_a_batch_size_or_answer_length_of_zero_is_refused(world_model: Any, tiny_tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="batch_size"):
        list(ask(world_model, tiny_tokenizer, task(Decoding(4)), QUESTIONS, batch_size=0))
    with pytest.raises(ConfigError, match="max_new_tokens"):
        list(ask(world_model, tiny_tokenizer, task(Decoding(0)), QUESTIONS))
