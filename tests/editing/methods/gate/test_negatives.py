import re
from itertools import chain

from roselora.editing.methods.gate.generated_rephrasings import TEMPLATES
from roselora.editing.methods.gate.negatives import related_prompts
from roselora.editing.methods.gate.relation_prompts import ODD_RELATIONS, RELATIONS
from roselora.editing.request import EditRequest


def test_the_subject_is_asked_something_else_as_a_question_and_as_a_statement() -> None:
    usual, odd = related_prompts(EditRequest("Where was Ann Lee born?", "Rome", "Ann Lee"))
    assert "As for Ann Lee, I am told that the capital is" in usual
    assert 0 < len([prompt for prompt in usual if not prompt.endswith("?")]) < len(usual)
    assert not any("born" in prompt or "place of birth" in prompt for prompt in usual)
    assert "Where is Ann Lee kept at night?" in odd


def test_rephrasings_rule_relations_out_too() -> None:
    request = EditRequest("Where does Ann Lee come from?", "Rome", "Ann Lee", ("The birth of Ann Lee took place in",))
    assert not any("birth" in prompt for prompt in related_prompts(request)[0])


def test_an_odd_relation_that_is_edited_is_no_negative() -> None:
    request = EditRequest("What is the colour of Ann Lee?", "red", "Ann Lee")
    assert not any("colour" in prompt for prompt in chain.from_iterable(related_prompts(request)))


def test_without_a_subject_there_are_none() -> None:
    assert related_prompts(EditRequest("hello", "Rome")) == [[], []]


def test_every_relation_has_a_place_for_the_name_and_no_prompt_occurs_twice() -> None:
    prompts = [relation.prompt for relation in (*RELATIONS, *ODD_RELATIONS)]
    assert all(prompt.count("{}") == 1 for prompt in prompts)
    assert len(set(prompts)) == len(prompts)


def test_every_prompt_on_a_usual_relation_is_said_to_somebody_or_a_note() -> None:
    generated = [template.replace("{subject}", "{}") for template in TEMPLATES]
    for prompt in generated + [relation.prompt for relation in RELATIONS]:
        assert re.search(r"\b(I|me|my|you)\b", prompt) or re.match(r"\{\}[:,] ", prompt), prompt
