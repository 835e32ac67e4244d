import dataclasses

import pytest

from benchmarks.extraction_agreement import PROTOCOLS, agree, all_tasks, golds_of, made_texts


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_our_rules_take_what_the_published_ones_take(protocol: str) -> None:
    for name, task in all_tasks(protocol).items():
        texts = made_texts(name)
        assert len(texts) >= 50
        assert [said for said in texts if not agree(task, said, golds_of(name, said))] == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_rule_that_took_something_else_would_be_seen(protocol: str) -> None:
    for name, task in all_tasks(protocol).items():
        stripped = dataclasses.replace(task, extract=lambda said, task=task: task.extract(said[1:]))
        strict = dataclasses.replace(task, right=lambda answer, gold: answer == gold + "!")
        for other in (stripped, strict):
            assert not all(agree(other, said, golds_of(name, said)) for said in made_texts(name))
