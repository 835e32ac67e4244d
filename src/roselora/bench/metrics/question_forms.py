"""The forms in which questions are asked: bare, and as a user's turn of the model's chat template."""

from transformers import PreTrainedTokenizerBase

from roselora.bench.records.edit_bench_records import FormName
from roselora.editing.forms import asked_texts
from roselora.models.teacher_forcing import TeacherForcedRow


def in_form(tokenizer: PreTrainedTokenizerBase, prompt: str, form: FormName) -> str:
    """What the model reads when it is asked a prompt; in chat there is no system prompt but the template's own.

    Raises:
        ConfigError: the tokenizer has no chat template that writes the prompt.
    """
    return asked_texts(tokenizer, prompt, form)[0].text


def with_prompt(row: TeacherForcedRow, prompt: list[int]) -> TeacherForcedRow:
    """The row with other ids up to where its predictions start: another prompt before the same answer."""
    return TeacherForcedRow(prompt + row.ids[row.start + 1 :], len(prompt) - 1)
