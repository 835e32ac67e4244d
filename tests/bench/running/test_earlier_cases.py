import json
from pathlib import Path

import pytest

from roselora.bench.running.earlier_cases import asked_before
from roselora.bench.tasks.edit_datasets import DATASETS, FOLDER, read_cases
from roselora.errors import ConfigError


def test_a_case_that_an_earlier_run_has_asked_is_found_by_its_prompt_in_whatever_set(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    prompts = {"zsre": ["Where is Ur?", "Who is Bo?", "What is snow?"], "zsre_stream": ["Who is Cy?", "who is Bo"]}
    for name, asked in prompts.items():
        records = [
            {"prompt": prompt, "target_new": "x", "subject": "y", "portability": {}, "locality": {}}
            if name == "zsre"
            else {"src": prompt, "alt": "x", "subject": "y", "rephrase": "z", "loc": "w", "loc_ans": "v"}
            for prompt in asked
        ]
        (tmp_path / FOLDER / DATASETS[name].file).write_text(json.dumps(records))
    earlier = tmp_path / "records.jsonl"
    earlier.write_text('{"case": "zsre/2", "method": "rose"}\n{"case": "zsre_stream/1"}\n{"case": "zsre/2"}\n')
    cases = read_cases("zsre", tmp_path).cases
    assert asked_before(cases, [earlier], tmp_path) == ("zsre/1", "zsre/2")
    assert asked_before(cases, [], tmp_path) == ()
    earlier.write_text('{"case": "zsre/2"}\n{"prompt": "Where is Ur?"}\n')
    with pytest.raises(ConfigError, match=r"Record 1 of .*case"):
        asked_before(cases, [earlier], tmp_path)
