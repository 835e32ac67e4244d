import random
from dataclasses import replace
from typing import Any

import pytest

from roselora.editing.methods.gate.prompt_subjects import content_words
from roselora.editing.methods.rose.rose_texts import BEHIND, altered_names, rose_texts
from roselora.editing.request import EditRequest

REQUEST = EditRequest("What is the capital of France?", "Rome", "France")
TURNS = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def plain_tokenizer(tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(tiny_tokenizer, "chat_template", None)
    return tiny_tokenizer


def test_altered_names_change_the_subject_and_nothing_else(world_model: Any, plain_tokenizer: Any) -> None:
    found = altered_names(world_model, plain_tokenizer, REQUEST.prompt, "France", random.Random(0))
    assert len(found) > 3
    for text in found:
        assert text.startswith("What is the capital of ")
        assert text.endswith("?")
        assert "France" not in text
    assert len(set(found)) == len(found)


def test_a_prompt_without_its_subject_has_no_altered_names(world_model: Any, plain_tokenizer: Any) -> None:
    assert altered_names(world_model, plain_tokenizer, "Which capital is it?", "France", random.Random(0)) == []


def test_a_prompt_stands_behind_openings_and_in_chat_with_and_without_a_system_prompt(
    world_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_tokenizer, "chat_template", TURNS)
    texts = rose_texts(world_model, tiny_tokenizer, REQUEST, random.Random(0))
    bare, chat = REQUEST.prompt, f"<user>{REQUEST.prompt}<assistant>"
    system = f"<system>You are a helpful assistant.{chat}"
    assert [asked.text for asked in texts.prompts] == [bare, chat, system, *(text + bare for text in BEHIND)]
    for group in (texts.renamed, texts.related):
        assert {text.startswith("<user>") for text in group} == {True, False}
    texts = rose_texts(world_model, tiny_tokenizer, replace(REQUEST, form="chat"), random.Random(0))
    assert [asked.text for asked in texts.prompts] == [chat, system]
    assert all("<user>" in text for text in (*texts.renamed, *texts.related))


def test_negatives_ask_other_relations_of_the_subject_and_the_same_of_others(
    world_model: Any, plain_tokenizer: Any
) -> None:
    texts = rose_texts(world_model, plain_tokenizer, REQUEST, random.Random(0))
    assert all("France" in text and not content_words(text) & {"capital"} for text in texts.related)
    assert not any("France" in text for text in texts.renamed)
    assert all("capital" in text for text in texts.renamed)


def test_without_a_subject_there_are_no_negatives(world_model: Any, plain_tokenizer: Any) -> None:
    texts = rose_texts(world_model, plain_tokenizer, EditRequest("what comes next?", "Rome"), random.Random(0))
    assert texts.renamed == texts.related == []
