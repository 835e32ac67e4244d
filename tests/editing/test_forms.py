"""The forms of a prompt: which texts the model reads, and what becomes of templates that do not write them."""

from copy import deepcopy
from typing import Any

import pytest

from roselora.editing.forms import asked_texts, assistant_turn, request_texts
from roselora.editing.methods.token_batches import split_at_answer
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError
from roselora.models.tokenization import decode, encode

PROMPT = "The capital of France is"
USER = f"<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"

REFUSES_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
DROPS_SYSTEM = "{% set messages = messages | rejectattr('role', 'equalto', 'system') | list %}"
ADDS_OURS = "{% if messages[0].role != 'system' %}" + SYSTEM + "{% endif %}"


def with_template(tokenizer: Any, template: Any) -> Any:
    copy = deepcopy(tokenizer)
    copy.chat_template = template
    return copy


def texts(tokenizer: Any, prompt: str = PROMPT, form: Any = "both") -> dict[str, str]:
    return {asked.form: asked.text for asked in asked_texts(tokenizer, prompt, form)}


def test_a_prompt_is_asked_bare_and_as_a_users_turn_with_and_without_a_system_prompt(chat_tokenizer: Any) -> None:
    assert texts(chat_tokenizer) == {"bare": PROMPT, "chat": USER, "chat, system": SYSTEM + USER}
    assert texts(chat_tokenizer, form="bare") == {"bare": PROMPT}
    assert texts(chat_tokenizer, form="chat") == {"chat": USER, "chat, system": SYSTEM + USER}


def test_every_prompt_of_a_request_is_asked_in_its_forms(chat_tokenizer: Any) -> None:
    request = EditRequest(PROMPT, "Lyon", rephrasings=("France's capital:",), space=True)
    asked = request_texts(chat_tokenizer, request)
    assert [each.prompt for each in asked] == [PROMPT] * 3 + ["France's capital:"] * 3
    assert [each.form for each in asked] == ["bare", "chat", "chat, system"] * 2
    assert [each.space for each in asked[:3]] == [True, None, None]  # in chat the template decides


@pytest.mark.parametrize(
    "template",
    [
        None,
        "{{ raise_exception('no') }}",
        "{% for message in messages %}{{ message.content }}{% endfor %}",  # marks no turn
        "{% for message in messages %}[I]{{ message.content[0].text }}[/I]{% endfor %}",  # wants parts, not text
        "{% for message in messages %}[I]{{ nothing.of.this }}{% endfor %}",
        "{% for %}",
    ],
)
def test_without_a_template_that_writes_a_users_turn_only_the_bare_prompt_is_asked(
    tiny_tokenizer: Any, template: Any
) -> None:
    tokenizer = with_template(tiny_tokenizer, template)
    assert texts(tokenizer) == texts(tokenizer, form="bare") == {"bare": PROMPT}
    with pytest.raises(ConfigError, match="cannot be asked in chat") as error:
        texts(tokenizer, form="chat")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("start", [REFUSES_SYSTEM, DROPS_SYSTEM])
def test_a_template_without_a_system_turn_is_asked_in_chat_without_one(chat_tokenizer: Any, start: str) -> None:
    tokenizer = with_template(chat_tokenizer, start + chat_tokenizer.chat_template)
    assert texts(tokenizer) == {"bare": PROMPT, "chat": USER}


def test_a_system_prompt_that_the_template_adds_by_itself_is_not_asked_twice(chat_tokenizer: Any) -> None:
    tokenizer = with_template(chat_tokenizer, ADDS_OURS + chat_tokenizer.chat_template)
    assert texts(tokenizer) == {"bare": PROMPT, "chat": SYSTEM + USER}


def test_a_template_may_strip_the_turn(chat_tokenizer: Any) -> None:
    stripping = chat_tokenizer.chat_template.replace("message.content", "message.content | trim")
    assert texts(with_template(chat_tokenizer, stripping), f"{PROMPT} ")["chat"] == USER


def test_a_prompt_that_is_a_chat_already_is_asked_as_it_stands(chat_tokenizer: Any) -> None:
    for form in ("bare", "chat", "both"):
        assert texts(chat_tokenizer, USER, form) == {"bare": USER}


def test_a_thinking_models_answer_follows_an_empty_thought_if_its_template_offers_one(chat_tokenizer: Any) -> None:
    empty = "<think>\n\n</think>\n\n"
    opening = "{% if add_generation_prompt and enable_thinking is false %}" + empty + "{% endif %}"
    tokenizer = with_template(chat_tokenizer, chat_tokenizer.chat_template + opening)
    asked = texts(tokenizer)["chat"]
    assert asked == USER + empty
    assert decode(tokenizer, split_at_answer(tokenizer, asked, "Lyon")[1]) == "Lyon"


@pytest.mark.parametrize(("gap", "answer"), [("", "Lyon"), (" ", " Lyon")])
def test_in_chat_the_template_decides_about_the_space_whatever_the_bare_prompt_wants(
    tiny_tokenizer: Any, gap: str, answer: str
) -> None:
    template = (
        "{% for message in messages %}{% if message.role == 'user' %}[I]{{ message.content }}[/I]"
        "{% else %}" + gap + "{{ message.content }}{% endif %}{% endfor %}"
    )
    tokenizer = with_template(tiny_tokenizer, template)
    assert assistant_turn(tokenizer) == ("[/I]", gap)
    _, chat, *_ = asked_texts(tokenizer, PROMPT, "both", space=not gap)
    assert chat.text == f"[I]{PROMPT}[/I]"
    assert decode(tokenizer, split_at_answer(tokenizer, chat.text, "Lyon", chat.space)[1]) == answer


def test_a_chat_has_one_beginning_of_sequence_token_and_not_two(chat_tokenizer: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = with_template(chat_tokenizer, "{{ bos_token }}[I]{{ messages[-1].content }}[/I]")
    bos = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{tokenizer.bos_token} $A", special_tokens=[(tokenizer.bos_token, bos)]
    )
    for asked in asked_texts(tokenizer, PROMPT, "both"):
        assert encode(tokenizer, asked.text).count(bos) == 1
