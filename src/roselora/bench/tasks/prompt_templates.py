"""The prompts of LLM-Adapters and of LoReFT, exactly as published, to the last space.

The trainer adds the end-of-sequence token after a completion.
"""

TRIGGER = "the correct answer is "
"""The words before the answer in a commonsense completion."""

RESPONSE = "### Response:"
"""The mark after which a model answers in Alpaca's template."""

_TASK = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
_INDENT = " " * 16


def llm_adapters_question(instruction: str) -> str:
    """Alpaca's template without input, as LLM-Adapters' evaluators write it.

    The indentation of their source code is part of it: sixteen spaces before each line and after the last one. One
    space ends the first line. (commonsense_evaluate.py and evaluate.py, commit 8166572.)
    """
    return f"{_TASK} \n\n{_INDENT}### Instruction:\n{_INDENT}{instruction}\n\n{_INDENT}{RESPONSE}\n{_INDENT}"


def llm_adapters_training(instruction: str) -> str:
    """The same template as LLM-Adapters' training writes it.

    Here two spaces end the first line, and the blank line holds sixteen. The published code has this difference between
    training and evaluation; its loss also covers the prompt by default. (finetune.py, commit 8166572.)
    """
    return f"{_TASK}  \n\n{_INDENT}### Instruction:\n{_INDENT}{instruction}\n{_INDENT}\n{_INDENT}{RESPONSE}\n{_INDENT}"


def loreft_commonsense(instruction: str) -> str:
    """LoReFT's commonsense prompt: the instruction and a new line. (task_config.py, pyreft commit dafd099.)"""
    return f"{instruction}\n"


def loreft_arithmetic(instruction: str) -> str:
    """LoReFT's arithmetic prompt: Alpaca's template without indentation. (templates.py, pyreft commit dafd099.)"""
    return f"{_TASK}\n\n### Instruction:\n{instruction}\n\n{RESPONSE}\n"
