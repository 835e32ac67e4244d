import re

from roselora.editing.methods.gate.generated_rephrasings import TEMPLATES
from roselora.editing.methods.gate.negatives import RELATED, related_prompts
from roselora.editing.methods.gate.relation_prompts import RELATIONS, STATEMENTS
from roselora.editing.request import EditRequest


def test_the_subject_is_asked_something_else_as_a_question_and_as_a_statement() -> None:
    found = related_prompts(EditRequest("Where was Ann Lee born?", "Rome", "Ann Lee"))
    assert "Ann Lee: spouse?" in found
    assert len([prompt for prompt in found if not prompt.endswith("?")]) == len(found) / 2
    assert not any("born" in prompt or "place of birth" in prompt for prompt in found)
    assert len(RELATED) < len(found) < 2 * len(RELATED)


def test_rephrasings_rule_relations_out_too() -> None:
    request = EditRequest("Where does Ann Lee come from?", "Rome", "Ann Lee", ("The birth of Ann Lee took place in",))
    assert not any("birth" in prompt for prompt in related_prompts(request))


def test_without_a_subject_there_are_none() -> None:
    assert related_prompts(EditRequest("hello", "Rome")) == []


def test_every_relation_has_a_place_for_the_name_and_no_prompt_occurs_twice() -> None:
    prompts = [prompt for relation in RELATIONS for prompt in (relation.statement, relation.question)]
    assert all(prompt.count("{}") == 1 for prompt in prompts)
    assert len(set(prompts)) == len(prompts)


def test_every_prompt_is_said_to_somebody_or_a_note() -> None:
    generated = [template.replace("{subject}", "{}") for template in TEMPLATES]
    for prompt in generated + [prompt for relation in RELATIONS for prompt in (relation.statement, relation.question)]:
        assert re.search(r"\b(I|me|my|you)\b", prompt) or re.match(r"\{\}[:,] ", prompt), prompt


def test_what_an_edit_takes_of_the_relations_has_every_form() -> None:
    opening = {relation.statement.split()[0] for relation in RELATIONS}
    assert {relation.statement.split()[0] for relation in RELATED} == opening
    assert len(opening) == len(STATEMENTS)
