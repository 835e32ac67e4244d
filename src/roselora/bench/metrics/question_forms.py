"""The forms in which questions are asked: bare, and as a user's turn of the model's chat template."""

from transformers import PreTrainedTokenizerBase

from roselora.bench.records.edit_bench_records import FormName
from roselora.errors import ConfigError
from roselora.models.teacher_forcing import TeacherForcedRow


def in_form(tokenizer: PreTrainedTokenizerBase, prompt: str, form: FormName) -> str:
    """What the model reads when it is asked a prompt; in chat there is no system prompt but the template's own.

    Raises:
        ConfigError: the tokenizer has no chat template that writes the prompt.
    """
    if form == "bare":
        return prompt
    if not tokenizer.chat_template:
        raise ConfigError("The tokenizer has no chat template, so nothing can be asked in chat: give --form bare.")
    turn = [{"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))


def with_prompt(row: TeacherForcedRow, prompt: list[int]) -> TeacherForcedRow:
    """The row with other ids up to where its predictions start: another prompt before the same answer."""
    return TeacherForcedRow(prompt + row.ids[row.start + 1 :], len(prompt) - 1)
