from roselora.bench.tasks import prompt_templates as templates


def test_llm_adapters_prompts_carry_its_source_codes_indentation() -> None:
    assert templates.llm_adapters_question("Add 2 and 3.").split("\n") == [
        "Below is an instruction that describes a task. Write a response that appropriately completes the request. ",
        "",
        "                ### Instruction:",
        "                Add 2 and 3.",
        "",
        "                ### Response:",
        "                ",
    ]
    assert templates.llm_adapters_training("Add 2 and 3.").split("\n") == [
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.  ",
        "",
        "                ### Instruction:",
        "                Add 2 and 3.",
        "                ",
        "                ### Response:",
        "                ",
    ]


def test_lorefts_prompts_have_none() -> None:
    assert templates.loreft_commonsense("Is it so?\n\nAnswer format: true/false") == (
        "Is it so?\n\nAnswer format: true/false\n"
    )
    assert templates.loreft_arithmetic("Add 2 and 3.") == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd 2 and 3.\n\n### Response:\n"
    )
