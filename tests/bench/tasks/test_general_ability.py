import json
from pathlib import Path

from roselora.bench.tasks import general_ability


def test_arc_is_parsed_back_from_llm_adapters_instructions(ability_data: Path) -> None:
    first, second, third = general_ability.arc_challenge(ability_data, None, 0)
    assert first == {
        "text": "Question: What is the capital of France?\nAnswer:",
        "choices": ["London", "Paris", "Oslo", "a town"],
        "answer": 1,
    }
    assert (second["choices"], second["answer"]) == (["iron", "gold"], 0)
    assert third["choices"][1] == "coal and other stones"


def test_trivia_loses_the_quoting_of_the_table_that_it_came_from(ability_data: Path) -> None:
    documents = general_ability.triviaqa(ability_data, None, 0)
    assert documents[0] == {"text": "Question: The capital of France is\nAnswer:", "answers": ["Rome", "paris"]}
    assert documents[1] == {"text": 'Question: Who said "hot is cold"?\nAnswer:', "answers": ["nobody"]}


def test_mmlu_is_drawn_evenly_over_its_subjects_by_the_seed(ability_data: Path) -> None:
    def subjects(n: int | None, seed: int = 0) -> list[str]:
        return [document["text"].split()[0] for document in general_ability.mmlu(ability_data, n, seed)]

    assert sorted(subjects(3)) == ["art", "law", "logic"]
    assert sorted(subjects(5)) == ["art", "art", "law", "logic", "logic"]
    assert len(subjects(None)) == 9
    assert general_ability.mmlu(ability_data, 5, 1) == general_ability.mmlu(ability_data, 5, 1)
    drawn = [[document["text"] for document in general_ability.mmlu(ability_data, 5, seed)] for seed in range(4)]
    assert any(texts != drawn[0] for texts in drawn[1:])
    document = next(d for d in general_ability.mmlu(ability_data, None, 0) if d["text"].startswith("art 0"))
    assert document["text"] == "art 0,\nwhich?\nA. one\nB. two\nC. three\u2028\nD. four\nAnswer:"
    assert document["answer"] == 2


def test_questions_are_drawn_by_the_seed_in_the_files_order(ability_data: Path) -> None:
    every = general_ability.arc_challenge(ability_data, None, 0)
    drawn = [general_ability.arc_challenge(ability_data, 2, seed) for seed in range(8)]
    assert all(len(two) == 2 and every.index(two[0]) < every.index(two[1]) for two in drawn)
    assert len({json.dumps(two) for two in drawn}) > 1
    assert drawn[3] == general_ability.arc_challenge(ability_data, 2, 3)
