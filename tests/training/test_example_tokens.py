"""The tokens are trl's own; what has nothing to learn is left out, and what cannot be told is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from roselora.errors import ConfigError
from roselora.training.example_tokens import causal_tokens, class_tokens

TALK = [{"role": "user", "content": "two and two"}]
ANSWER = [{"role": "assistant", "content": "four"}]


@pytest.fixture
def tokenizer(tiny_model_folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_model_folder)


@pytest.fixture
def tokens(tokenizer: PreTrainedTokenizerBase) -> Callable[..., Dataset]:
    def make(examples: list[dict[str, Any]], max_length: int = 100, known_tokens: int = 10_000) -> Dataset:
        rows = Dataset.from_list(examples)
        return causal_tokens(rows, lambda row: [dict(row)], tokenizer, known_tokens, max_length, "data")[0]

    return make


@pytest.mark.parametrize("max_length", [100, 20])
@pytest.mark.parametrize(
    "records",
    [
        [{"prompt": "one and one make", "completion": " two"}, {"prompt": "one " * 20, "completion": "two and one"}],
        [{"text": "one and one make two " * 9}, {"text": "two"}],
        [
            {"prompt": TALK, "completion": ANSWER},
            {"prompt": [*TALK, *ANSWER, *TALK, *ANSWER, *TALK], "completion": ANSWER},
        ],
    ],
    ids=["completion", "text", "chat"],
)
def test_examples_become_the_tokens_and_labels_that_trl_makes(
    tokens: Callable[..., Dataset],
    tiny_model_folder: Path,
    tmp_path: Path,
    records: list[dict[str, Any]],
    max_length: int,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    ours = tokens(records, max_length)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model_folder),
        args=SFTConfig(str(tmp_path), max_length=max_length, report_to="none", use_cpu=True, bf16=False),
        train_dataset=Dataset.from_list(records),
        processing_class=tokenizer,
    )
    theirs: Any = trainer.train_dataset
    assert list(ours["input_ids"]) == list(theirs["input_ids"])
    assert list(ours["labels"]) == list(theirs["labels"])


def test_an_example_with_nothing_to_learn_within_the_length_is_left_out(tokens: Callable[..., Dataset]) -> None:
    long = {"prompt": "one and two " * 10, "completion": "three"}
    assert len(tokens([long, {"prompt": "one", "completion": " two"}, long], max_length=5)) == 1
    with pytest.raises(ConfigError, match=r"No example of data has a completion within max_length \(5 tokens\)"):
        tokens([long], max_length=5)


@pytest.mark.parametrize("end", ["", "{{ eos_token }}", "{% if add_generation_prompt %}bot:{% endif %}"])
def test_a_chat_template_that_leaves_the_answer_out_is_named_as_the_cause(
    tokens: Callable[..., Dataset], tokenizer: PreTrainedTokenizerBase, end: str
) -> None:
    asked = "{% for message in messages if message.role == 'user' %}{{ message.content }}{% endfor %}"
    tokenizer.chat_template = asked + end
    with pytest.raises(ConfigError, match=r"^Record 1 of data loses its answer, which the model's chat template"):
        tokens([{"prompt": TALK, "completion": ANSWER}])


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('no system\nhere') }}", "no system here"),
        ("{{ messages[0].content + 1 }}", "can only concatenate str"),
        ("{{ messages[9].content.x }}", "has no element 9|is undefined"),
        ("{% for", "Expected an expression|unexpected|Unexpected|expected"),
        ("{{ 1 // 0 }}", "division"),
    ],
)
def test_a_chat_template_that_refuses_an_example_is_one_sentence(
    tokens: Callable[..., Dataset], tokenizer: PreTrainedTokenizerBase, template: str, reason: str
) -> None:
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}" + template + "{% endif %}{{ messages[-1].content }}"
    )
    fine, system = (
        {"prompt": [*first, *TALK], "completion": ANSWER} for first in ([], [{**TALK[0], "role": "system"}])
    )
    with pytest.raises(ConfigError, match=f"^Record [12] of data is refused by the model's chat template .*({reason})"):
        tokens([fine, system])


def test_a_token_beyond_the_embeddings_is_named(
    tokens: Callable[..., Dataset], tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = len(tokenizer)
    tokenizer.add_tokens(["<extra>"])
    with pytest.raises(ConfigError, match=rf"Record 1 of data holds the token '<extra>', whose id {rows} is beyond"):
        tokens([{"text": "one <extra>"}], known_tokens=rows)
    labelled = Dataset.from_list([{"text": "one", "label": 0}, {"text": "<extra>", "label": 1}])
    with pytest.raises(ConfigError, match="Record 2 of data holds the token '<extra>'"):
        class_tokens(labelled, tokenizer, rows, 10, "data")
