"""Where a space stands between a prompt and its answer, and where none does."""

from copy import deepcopy
from typing import Any

import pytest

from roselora.editing.methods.answer_spacing import continued

SPACED = [
    ("The capital of France is", "Lyon"),
    ("Answer:", "Lyon"),
    ("La capitale est :", "Lyon"),
    ("He said 'yes'", "twice"),
    ("Paris (in France)", "is"),
    ("2 + 2 =", "4"),
    ("France ->", "Lyon"),
    ("The Chinese name of Lyon is", "里昂"),
    ("عاصمة فرنسا هي", "ليون"),
    ("프랑스의 수도는", "리옹"),
    ("फ़्रांस की राजधानी है", "ल्यों"),
    ("Столица Франции —", "Лион"),
    ("The framework is", ".NET"),
    ("In 1.", "Lyon"),
    ("__Seat of the king__", "Lyon"),
    ("*Answer:*", "Lyon"),
    ("<i>Answer:</i>", "Lyon"),
    ("Das Brot kostet 3 €", "mehr"),
    ("It costs 20£", "more"),
    ("The students'", "books"),
    ("Er sagte „ja“", "zweimal"),
    ("Il a dit « oui »", "deux fois"),
    ("6 \u00d7", "7"),
    ("Chinese 上海 is called", "申城"),
]
CLOSE = [
    ("2+2=", "4"),
    ("x=", "y"),
    ('The capital of France is "', "Lyon"),
    ("The capital is “", "Lyon"),
    ("print(", "Lyon"),
    ("print('", "Lyon"),
    ('{"capital":"', "Lyon"),
    ("cities[", "0"),
    ("It costs $", "5"),
    ("Jean-", "Paul"),
    ("<b>", "Lyon"),
    ("pi is 3.", "14"),
    ("Q: 2+2?\nA:\n", "4"),
    ("Answer: ", "4"),
    ("法国的首都是", "里昂"),
    ("法国的首都是", "Lyon"),
    ("法国的首都是:", "里昂"),
    ("フランスの首都は「", "リヨン"),
    ("フランスの首都は", "リヨン"),
    ("เมืองหลวงของฝรั่งเศสคือ", "ลียง"),
    ("The capital of France is", ", of course, Lyon"),
    ("France", "'s capital"),
    ("France is big", "."),
    ("La capitale de l'", "Auvergne"),
    ("La capitale de l\u2019", "Auvergne"),
    ("Il nome dell'", "isola"),
    ("她写“", "Lyon"),
    ("她写«", "Lyon"),
    ("上海的GDP", "是"),
    ("From $3 to $", "5"),
    ("¿", "Lyon"),
    ("上海→", "Lyon"),
    ("Lyon➜", "Paris"),
    ("6\u00d7", "7"),
    ("6÷", "3"),
    ("2*3*", "4"),
    ("a_b_", "c"),
]


@pytest.mark.parametrize(("prompt", "target"), SPACED)
def test_a_space_stands_where_a_writer_puts_one(tiny_tokenizer: Any, prompt: str, target: str) -> None:
    assert continued(tiny_tokenizer, prompt, target) == f" {target}"
    assert continued(tiny_tokenizer, prompt, target, space=False) == target


@pytest.mark.parametrize(("prompt", "target"), CLOSE)
def test_no_space_stands_where_the_prompt_or_its_language_wants_none(
    tiny_tokenizer: Any, prompt: str, target: str
) -> None:
    assert continued(tiny_tokenizer, prompt, target) == target
    wanted = target if prompt[-1].isspace() else f" {target}"
    assert continued(tiny_tokenizer, prompt, target, space=True) == wanted


@pytest.mark.parametrize(("gap", "expected"), [("", "Lyon"), (" ", " Lyon")])
def test_behind_a_chat_template_stands_what_the_template_puts_there(
    tiny_tokenizer: Any, gap: str, expected: str
) -> None:
    tokenizer = deepcopy(tiny_tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}[I]{{ m.content }}[/I]"
        "{% else %}" + gap + "{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    )
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert continued(tokenizer, prompt, "Lyon") == expected


def test_a_template_that_raises_says_nothing(tiny_tokenizer: Any) -> None:
    tokenizer = deepcopy(tiny_tokenizer)
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    assert continued(tokenizer, "The capital of France is", "Lyon") == " Lyon"
