"""What a model says to a question, and to what follows it."""

from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.forms import asked_texts
from roselora.editing.request import BARE
from roselora.errors import ConfigError
from roselora.models.generation import greedy_tokens
from roselora.models.tokenization import decode
from roselora.ui.bodies import Ask

ROLES = ("user", "assistant")


def has_chat(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether questions can be asked in a chat template."""
    return len(asked_texts(tokenizer, "?", "both")) > 1


def answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, body: Ask) -> tuple[str, str]:
    """The answers to the question and to its follow-up; the latter is empty without one.

    Raises:
        ConfigError: it is to be asked in chat, and there is no chat template.
    """

    def said(turns: list[str]) -> str:
        if body.form == BARE:
            text = "\n".join(turns)
        else:
            chat = [{"role": ROLES[number % 2], "content": turn} for number, turn in enumerate(turns)]
            rendered: Any = tokenizer.apply_chat_template
            text = str(rendered(chat, tokenize=False, add_generation_prompt=True, enable_thinking=False))
        (ids,) = greedy_tokens(model, tokenizer, [text], max_new_tokens=body.tokens)
        return decode(tokenizer, ids).strip() + ("…" if len(ids) == body.tokens else "")

    if body.form != BARE and not has_chat(tokenizer):
        raise ConfigError("The model has no chat template; ask in the bare form.")
    first = said([body.prompt])
    return first, said([body.prompt, first, body.follow_up]) if body.follow_up else ""
