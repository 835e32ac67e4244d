"""The forms in which a prompt is asked: bare, and as a user's turn of the tokenizer's chat template."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from roselora.editing.request import BARE, CHAT, SYSTEM, EditRequest, Form
from roselora.errors import ConfigError
from roselora.user_files import shown

SYSTEM_PROMPT = "You are a helpful assistant."
"""What stands in the system's turn. Many templates have a prompt of their own there when they are given none."""


@dataclass(frozen=True)
class AskedText:
    """A prompt in one of its forms.

    Attributes:
        prompt: as the request has it.
        form: `BARE`, `CHAT` or `SYSTEM`.
        text: what the model reads.
        space: whether a space stands between text and target, as in `EditRequest`. In chat the template decides.
    """

    prompt: str
    form: str
    text: str
    space: bool | None = None


def asked_texts(
    tokenizer: PreTrainedTokenizerBase, prompt: str, form: Form, space: bool | None = None
) -> list[AskedText]:
    """A prompt in the forms in which it is to be asked, at least one.

    With "both", a prompt is asked bare alone where the tokenizer's chat template cannot write it, and without a system
    prompt where it refuses one. A prompt that is a chat already, opening of the assistant's turn included, is asked as
    it stands.

    Raises:
        ConfigError: the form is "chat", and there is no chat template, or none that can write the prompt.
    """
    bare = AskedText(prompt, BARE, prompt, space)
    if form == "bare" or _is_chat(tokenizer, prompt):
        return [bare]
    in_chat = _in_chat(tokenizer, prompt)
    if form == "both":
        return [bare, *in_chat]
    if not in_chat:
        raise ConfigError(
            f"{shown(prompt)} cannot be asked in chat: the tokenizer has no chat template that writes it as a user's "
            "turn; ask in the bare form, or add a template to the tokenizer."
        )
    return in_chat


def request_texts(tokenizer: PreTrainedTokenizerBase, request: EditRequest) -> list[AskedText]:
    """All prompts of a request, each in all of its forms: every one of them must give the target.

    Raises:
        ConfigError: as :func:`asked_texts`.
    """
    return [
        asked for prompt in request.prompts for asked in asked_texts(tokenizer, prompt, request.form, request.space)
    ]


def users_turn(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the chat template writes before a user's words; empty without a template, or if it does not write them."""
    before, words, _ = _rendered(tokenizer, [{"role": "user", "content": "Qqq"}], opening=False).partition("Qqq")
    return before if words else ""


def assistant_turn(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str | None]:
    """How the chat template ends a user's turn and opens the assistant's, and what it puts before the answer.

    The first is empty without a template, and the second is None if it is neither nothing nor a space.
    """
    template = getattr(tokenizer, "chat_template", None)
    return _assistant_turn(tokenizer, str(template)) if template else ("", None)


@lru_cache(maxsize=8)
def _assistant_turn(tokenizer: PreTrainedTokenizerBase, template: str) -> tuple[str, str | None]:
    """See :func:`assistant_turn`; the template is what the result is remembered for."""
    asked, said = {"role": "user", "content": "Qqq"}, {"role": "assistant", "content": "Aaa"}
    prompt, whole = _rendered(tokenizer, [asked]), _rendered(tokenizer, [asked, said], opening=False)
    gap = whole.removeprefix(prompt).partition("Aaa")[0]
    return prompt.rpartition("Qqq")[2], gap if whole.startswith(prompt) and gap in ("", " ") else None


def _is_chat(tokenizer: PreTrainedTokenizerBase, prompt: str) -> bool:
    end, _ = assistant_turn(tokenizer)
    return end != "" and prompt.endswith(end)


def _in_chat(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[AskedText]:
    """The prompt as a user's turn, without and with a system prompt, as far as the template writes them."""
    user, system = {"role": "user", "content": prompt}, {"role": "system", "content": SYSTEM_PROMPT}
    alone, behind = _rendered(tokenizer, [user]), _rendered(tokenizer, [system, user])
    words = prompt.strip()  # some templates strip a turn
    if words not in alone or alone.strip() == words:
        return []
    found = [AskedText(prompt, CHAT, alone)]
    # A template may drop a system prompt, or write this one of its own accord.
    if behind != alone and words in behind and SYSTEM_PROMPT in behind:
        found.append(AskedText(prompt, SYSTEM, behind))
    return found


def _rendered(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], *, opening: bool = True) -> str:
    """The messages in the tokenizer's chat template, or an empty text if it has none or the template refuses them.

    Args:
        opening: whether the assistant's turn is opened, in the templates of thinking models behind an empty thought.
    """
    if not getattr(tokenizer, "chat_template", None):
        return ""
    render: Any = tokenizer.apply_chat_template
    try:
        return str(render(messages, tokenize=False, add_generation_prompt=opening, enable_thinking=False))
    except Exception:  # a template may raise anything
        return ""
