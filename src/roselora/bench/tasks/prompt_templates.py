"""The prompts of LLM-Adapters and of LoReFT, to the last space.

An end-of-sequence token after a completion is the trainer's affair.
"""

TRIGGER = "the correct answer is "
"""What stands before the answer in a commonsense completion."""

RESPONSE = "### Response:"
"""After it, a model that was asked by Alpaca's template answers."""

_TASK = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
_INDENT = " " * 16


def llm_adapters_question(instruction: str) -> str:
    """Alpaca's template without input as LLM-Adapters' evaluators write it.

    Their source code's indentation is part of it: sixteen spaces before each line, and after the last; and one space
    ends the first line. (commonsense_evaluate.py and evaluate.py, commit 8166572.)
    """
    return f"{_TASK} \n\n{_INDENT}### Instruction:\n{_INDENT}{instruction}\n\n{_INDENT}{RESPONSE}\n{_INDENT}"


def llm_adapters_lesson(instruction: str) -> str:
    """The same as LLM-Adapters' training writes it: two spaces end the first line, and a blank line holds sixteen.

    That training and evaluation differ is theirs, and so is a loss that covers the prompt too, by default.
    (finetune.py, commit 8166572.)
    """
    return f"{_TASK}  \n\n{_INDENT}### Instruction:\n{_INDENT}{instruction}\n{_INDENT}\n{_INDENT}{RESPONSE}\n{_INDENT}"


def loreft_commonsense(instruction: str) -> str:
    """LoReFT's commonsense prompt: the instruction and a new line. (task_config.py, pyreft commit dafd099.)"""
    return f"{instruction}\n"


def loreft_arithmetic(instruction: str) -> str:
    """LoReFT's arithmetic prompt: Alpaca's template without indentation. (templates.py, pyreft commit dafd099.)"""
    return f"{_TASK}\n\n### Instruction:\n{instruction}\n\n{RESPONSE}\n"
