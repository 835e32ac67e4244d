"""No question that judges an edit stands among the texts that it was made with, by any method, in any benchmark.

Both forms are covered: a question asked in chat is the same text in a user's turn, and texts are compared as they stand
in the turn.
"""

import json
import os
import re
import string
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.bench.methods import with_consequences
from roselora.bench.methods.editing_methods import METHODS
from roselora.bench.metrics.case_questions import judging_prompts
from roselora.bench.tasks.added_questions import ABOUT, SMALL_TALK, with_added_questions
from roselora.bench.tasks.edit_case import NEAREST, SAME_SUBJECT, EditCase, Probe
from roselora.bench.tasks.edit_datasets import DATASETS, FOLDER, read_cases
from roselora.editing.methods.edit_texts import edit_texts
from roselora.editing.methods.gate.other_subjects import other_subjects
from roselora.editing.methods.gate.training_texts import OTHER_SUBJECTS
from roselora.editing.methods.neutral_texts import NEUTRAL_TEXTS
from roselora.editing.request import EditRequest
from roselora.errors import EditError
from tests.bench.methods.editing import edit

REAL_DATA = Path(os.environ.get("ROSELORA_DATA_DIR") or Path(__file__).parents[2].parent / "shared" / "data")
"""Where the benchmarks' own files lie, if they do."""

BARE = [
    ("place of birth", "Where was {} born?"),
    ("name of the mother", "Who is the mother of {}?"),
    ("name of the spouse", "Who is {} married to?"),
    ("occupation", "What is the occupation of {}?"),
    ("name of the country of citizenship", "What is the nationality of {}?"),
    ("name of the founder", "Who founded {}?"),
    ("genre", "What is the genre of {}?"),
]
"""Relations as benchmarks ask for them, in bare statements and questions."""

SUBJECT = "Ada Plum"


def plain(text: str) -> str:
    """A text without case, outer punctuation, and the length of its spaces."""
    return " ".join(text.casefold().split()).strip(string.punctuation + string.whitespace)


def made_with(request: EditRequest) -> Iterator[str]:
    """Every text that some method reads for an edit of the request; an answer may follow some of them.

    The methods that are compared read the prompts, some behind a neutral text, and what ROME's KL is measured on.
    """
    yield from edit_texts(request)
    for prompt in request.prompts:
        yield from (f"{text} {prompt}" for text in ("", *NEUTRAL_TEXTS))
    if request.subject is not None:
        yield f"{request.subject} is a"


def overlapping(case: EditCase) -> list[str]:
    """The questions of a case that stand among what its edit is made with."""
    texts = set(map(plain, made_with(case.request)))
    return [question for question in judging_prompts(case) if plain(question) in texts]


def asked_cases(name: str, folder: Path) -> tuple[EditCase, ...]:
    """A benchmark's cases with all questions that they are asked."""
    cases = read_cases(name, folder).cases
    return with_added_questions(cases, cases)


def knowedit(prompt: str, subject: str, questions: Sequence[str]) -> dict[str, Any]:
    asked = [{"prompt": question, "ground_truth": ["x"]} for question in questions]
    groups = {"portability": {"Reasoning": asked}, "locality": {"Relation_Specificity": asked}}
    return {"prompt": prompt, "target_new": "Oslo", "subject": subject, "rephrase_prompt": questions[1], **groups}


def bare_questions(subject: str) -> list[str]:
    return [text for thing, question in BARE for text in (f"The {thing} of {subject} is", question.format(subject))]


def records(name: str) -> list[dict[str, Any]]:
    """Some records of a benchmark's shape, whose questions are bare ones on the edit's subject and on others."""
    asked = [*bare_questions(SUBJECT), *bare_questions("Canada"), f"What spouse does {SUBJECT} have?"]
    prompts = [f"The religion of {SUBJECT} is", f"Who was the employer of {SUBJECT}?"]
    if name.startswith("wikibio"):
        locality = knowedit("", SUBJECT, asked)["locality"]
        return [{"text": prompt, "labels": "Oslo", "concept": SUBJECT, "locality": locality} for prompt in prompts]
    if name == "counterfact_stream":
        return [
            {"prompt": prompt, "target_new": "Oslo", "subject": SUBJECT, "rephrase_prompt": question}
            | {"locality_prompt": question, "locality_ground_truth": "x"}
            for prompt in prompts
            for question in asked
        ]
    if name in ("zsre_mend", "zsre_stream"):
        return [
            {"src": prompt, "alt": "Oslo", "subject": SUBJECT, "rephrase": question, "loc": question, "loc_ans": "x"}
            | {"portability": {"New Question": question, "New Answer": "x"}}
            for prompt in prompts
            for question in asked
        ]
    return [knowedit(prompt, SUBJECT, asked) for prompt in prompts]


@pytest.mark.parametrize("name", DATASETS)
def test_no_bare_question_on_a_subject_stands_among_what_its_edit_is_made_with(name: str, tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / DATASETS[name].file).write_text(json.dumps(records(name)))
    cases = asked_cases(name, tmp_path)
    assert all(case.behind_sentence for case in cases)
    assert sum(len(probes) for case in cases for probes in case.locality.values()) >= 28
    assert [question for case in cases for question in overlapping(case)] == []


@pytest.mark.parametrize("name", DATASETS)
def test_no_question_of_the_benchmark_itself_does(name: str) -> None:
    if not (REAL_DATA / FOLDER / DATASETS[name].file).is_file():
        pytest.skip("the benchmark's file is not here: ROSELORA_DATA_DIR says where it is.")
    found = {case.key: questions for case in asked_cases(name, REAL_DATA) if (questions := overlapping(case))}
    assert found == {}


def test_what_an_edit_is_made_with_would_be_found() -> None:
    request = EditRequest(f"The religion of {SUBJECT} is", "Oslo", SUBJECT)
    first, second, third, fourth = list(dict.fromkeys(edit_texts(request)))[-4:]
    case = EditCase(
        "made/0",
        request.prompt,
        request.target,
        SUBJECT,
        rephrasings=(first.upper(), "What does she believe in?"),
        locality={
            NEAREST: (Probe(f" {second.rstrip('?')} ", ()),),
            SAME_SUBJECT: (Probe("What do people like about Ada Pear?", ()), Probe(third, ())),
        },
        behind_sentence=fourth,
    )
    assert overlapping(case) == [fourth, first.upper(), f" {second.rstrip('?')} ", third]


def test_sentences_before_prompts_and_questions_on_subjects_are_in_no_text_of_an_edit() -> None:
    request = EditRequest(f"The religion of {SUBJECT} is", "Oslo", SUBJECT)
    texts = [plain(text) for text in made_with(request)]
    for sentence in map(plain, SMALL_TALK):
        assert not any(sentence in text for text in texts)
    assert not set(texts) & {plain(question.format(SUBJECT)) for question in ABOUT}


@pytest.mark.parametrize("name", METHODS)
def test_the_list_of_what_edits_are_made_with_is_whole(
    name: str,
    word_model: LlamaForCausalLM,
    word_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("ROSELORA_HOME", str(tmp_path))
    read: set[str] = set()
    tokenize = PreTrainedTokenizerFast.__call__

    def noting(self: PreTrainedTokenizerFast, text: str, *arguments: Any, **options: Any) -> Any:
        read.update([text] if isinstance(text, str) else text)
        return tokenize(self, text, *arguments, **options)

    request = EditRequest("The capital of France is", "Rome", "France")
    altered = other_subjects(word_model, word_tokenizer, request.prompt, request.subject, OTHER_SUBJECTS)
    implied = EditRequest("The capital of Germany is", "Rome", "Germany")
    monkeypatch.setattr(with_consequences, "proposed_consequences", lambda *_: (implied,))
    if name.endswith("-consequences"):
        altered += made_with(implied)
    monkeypatch.setattr(PreTrainedTokenizerFast, "__call__", noting)
    with suppress(EditError):  # every text has been read by then, even if this small model does not learn the answer
        edit(name, word_model, word_tokenizer, request).undo()
    known = set(map(plain, [*made_with(request), *altered]))
    bare = {plain(text.strip().removesuffix(request.target)) for text in read - {request.target, f" {request.target}"}}
    # The model goes on with a list that begins with the subject too, to find other names; its tokens alone are counted.
    subjects = {plain(fact.subject) for fact in (request, implied)}
    lists = tuple(plain(f"1. {fact.subject}\n2.") for fact in (request, implied))
    left = [text for text in bare - known - {"", *subjects} if not text.startswith(lists)]
    if name.endswith("-consequences"):  # with the first fact in the weights the model names other subjects
        left = [text for text in left if not re.fullmatch("the capital of .+ is", text)]
    assert left == []
    assert read or name == "no-edit"
