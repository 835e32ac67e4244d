"""A data folder with the files of every benchmark in their shapes, a few records each, all made up here."""

import json
from pathlib import Path
from typing import Any

from tests.bench.conftest import FILES

PLACES = [
    (name, city, language)
    for name, city, language in zip(
        ("Ardony", "Belmar", "Corvia", "Dunmere", "Elstow", "Farrow", "Gilden", "Harbon"),
        ("Port Lune", "Westry", "Oldham", "Quay", "Saltby", "Thorne", "Umber", "Vale"),
        ("Ardish", "Belmaric", "Corvian", "Dunmeric", "Elstic", "Farric", "Gildish", "Harbonic"),
        strict=True,
    )
]
LONG = "The old mill stands by the river, and every spring its wheel is mended before the snow has gone. " * 3


def knowedit(place: tuple[str, str, str], prompt: str) -> dict[str, Any]:
    name, city, language = place
    return {
        "subject": name,
        "prompt": prompt,
        "target_new": city,
        "ground_truth": ["Nowhere"],
        "rephrase_prompt": f"{name} has its capital in",
        "portability": {"Reasoning": [{"prompt": f"{name} is ruled from", "ground_truth": [[city, city.upper()]]}]},
        "locality": {"Relation_Specificity": [{"prompt": f"People in {name} speak", "ground_truth": language}]},
    }


def mend(place: tuple[str, str, str], question: str) -> dict[str, Any]:
    name, city, _ = place
    return {
        "subject": name,
        "src": question,
        "alt": city,
        "rephrase": f"Which town is the capital of {name}?",
        "loc": "nq question: what is the symbol of iron",
        "loc_ans": "Fe",
        "portability": {"New Question": f"Where is {name} ruled from?", "New Answer": city},
    }


def counterfact(place: tuple[str, str, str]) -> dict[str, Any]:
    return {
        "subject": place[0],
        "prompt": f"The capital of {place[0]} is",
        "target_new": place[1],
        "rephrase_prompt": f"Rain fell. The capital of {place[0]} is",
        "locality_prompt": "The capital of Harbon is",
        "locality_ground_truth": "Vale",
    }


def biography(place: tuple[str, str, str]) -> dict[str, Any]:
    return {
        "text": f"This is a passage about {place[0]}. It is a small land.",
        "labels": f"Its capital is {place[1]}.",
        "concept": place[0],
        "locality": {"Relation_Specificity": [{"prompt": f"The tongue of {place[0]} is", "ground_truth": place[2]}]},
    }


def written(folder: Path) -> Path:
    """Write all of them below a folder, and return it."""
    edits = [knowedit(place, f"The capital of {place[0]} is") for place in PLACES]
    others = [knowedit(place, f"{place[0]}'s seat of government is") for place in PLACES]
    files: dict[str, Any] = {
        **FILES,
        "knowledge_editing/zsre_test.json": edits,
        "knowledge_editing/wikidata_counterfact_test.json": edits,
        "knowledge_editing/wikidata_recent_test.json": edits,
        "knowledge_editing/wikibio_test.json": [biography(place) for place in PLACES],
        "knowledge_editing/wikibio-train-all.json": [biography(place) for place in PLACES],
        "knowledge_editing/recent_train.json": others,
        "knowledge_editing/train_cf.json": others,
        "knowledge_editing/zsre_mend_edit.json": [
            mend(place, f"What is the capital of {place[0]}?") for place in PLACES
        ],
        "knowledge_editing/locft_zsre_3k.json": [mend(place, f"Which is {place[0]}'s capital?") for place in PLACES],
        "knowledge_editing/locft_counterfact_3k.json": [counterfact(place) for place in PLACES],
        "forgetting/triviaqa_1k.jsonl": [
            {"question": f"Which is the capital of {name}?", "golden_answers": [city]} for name, city, _ in PLACES
        ],
        "commonsense/ARC-Challenge_test.json": [
            {
                "instruction": f"Please choose the correct answer to the question: Where is {name} ruled from?\n\n"
                f"Answer1: {city} Answer2: Nowhere\n\nAnswer format: answer1/answer2",
                "input": "",
                "output": "the correct answer is answer1",
                "answer": "answer1",
            }
            for name, city, _ in PLACES
        ],
    }
    references = [
        {"instruction": f"Tell of {name}.", "output": f"{name}. {LONG}", "dataset": "koala"} for name, *_ in PLACES
    ]
    files["instruct/alpaca_eval_text_davinci_003.json"] = [
        *references,
        *FILES["instruct/alpaca_eval_text_davinci_003.json"],
    ]
    lessons = [
        {"instruction": f"Speak of {name}.", "input": "", "output": f"{city} is there."} for name, city, _ in PLACES
    ]
    texts = {
        "instruct/ultrafeedback_1k.json": "".join(json.dumps(lesson) + "\n" for lesson in lessons),
        **glue(),
        **mmlu(),
    }
    for name, records in files.items():
        by_line = name.endswith(".jsonl")
        text = "".join(json.dumps(each) + "\n" for each in records) if by_line else json.dumps(records)
        texts.setdefault(name, text)
    for name, content in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def mmlu() -> dict[str, str]:
    rows = "".join(f"Where is {name} ruled from?,{city},Nowhere,Elsewhere,Here,A\n" for name, city, _ in PLACES)
    return {f"forgetting/mmlu/test/{subject}_test.csv": rows for subject in ("geography", "history")}


def glue() -> dict[str, str]:
    def table(header: str, line: str, count: int) -> str:
        rows = [line.format(i=i, bit=i % 2, entailed=("not_entailment", "entailment")[i % 2]) for i in range(count)]
        return "\n".join([header, *rows] if header else rows) + "\n"

    files = {
        "CoLA": ("", "source\t{bit}\t*\tA sentence {i}."),
        "SST-2": ("sentence\tlabel", "a film {i}\t{bit}"),
        "MRPC": ("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", "{bit}\t{i}\t{i}\tOne {i}.\tTwo {i}."),
        "STS-B": ("sentence1\tsentence2\tscore", "One {i}.\tTwo {i}.\t{bit}.{i}"),
        "RTE": ("index\tsentence1\tsentence2\tlabel", "{i}\tA {i}.\tB {i}.\t{entailed}"),
    }
    found = {
        f"glue/{name}/{part}.tsv": table(header, line, count)
        for name, (header, line) in files.items()
        for part, count in (("train", 120), ("dev", 9))
    }
    labels = {
        "QQP": ("0", "1"),
        "MNLI": ("entailment", "neutral", "contradiction"),
        "QNLI": ("entailment", "not_entailment"),
    }
    for name, classes in labels.items():
        for part, count in (("train", 24), ("dev", 9)):
            records = {
                str(i): {"text_a": f"One {i}.", "text_b": f"Two {i}.", "label": classes[i % len(classes)]}
                for i in range(count)
            }
            found[f"glue/{name}/subset_{part}.json"] = json.dumps(records)
    return found
