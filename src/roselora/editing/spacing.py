"""What stands between a prompt and the answer to it: a space, where language and prompt want one.

A target is trained as it will be said. After ``2+2=``, an opening quotation mark or a newline no space is said, nor in
languages that are written without spaces; and behind a chat template's opening of the assistant's turn stands what the
template itself puts there.
"""

import re
import unicodedata
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

UNSPACED = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff"  # Thai, Lao, Tibetan, Burmese, Khmer
    "\u2e80-\u312f\u31a0-\u4dbf\u4e00-\ua4cf"  # Han, kana, bopomofo, Yi, and their punctuation
    "\uf900-\ufaff\ufe30-\ufe4f\uff01-\uff9f\U00020000-\U0003ffff]"  # more Han, and forms of full width
)
CONTRACTION = re.compile(r"['\u2019](?:s|t|m|d|re|ve|ll)\b", re.IGNORECASE)
SIGNS = re.compile(r"[=+\-\u2013\u2014*/\\<>|~^&_]+$")
QUOTES = "\"'`\u00ab\u00bb\u2018\u2019\u201c\u201d"
PREFIXES = "#@$€£¥\\"


def continued(tokenizer: PreTrainedTokenizerBase, prompt: str, target: str, space: bool | None = None) -> str:
    """The target as it stands after the prompt, with or without a space before it.

    Args:
        space: what the user says of it; without effect where the prompt ends in whitespace, which is space enough.
    """
    if not prompt or prompt[-1].isspace():
        return target
    if space is None:
        space = _template_says(tokenizer, prompt)
    if space is None:
        space = _wants_space(prompt, target)
    return f" {target}" if space else target


def _wants_space(prompt: str, target: str) -> bool:
    """Whether a writer would put a space between them."""
    last, before, first = prompt[-1], prompt[-2:-1], target[0]
    if UNSPACED.match(last) or (UNSPACED.match(first) and UNSPACED.search(prompt)):
        return False
    if last in QUOTES:  # an opening one stands at the beginning of a word
        return bool(before) and (before.isalnum() or before in ".,!?…%" or unicodedata.category(before) == "Pe")
    if unicodedata.category(last) == "Ps" or last in PREFIXES:
        return False
    if signs := SIGNS.search(prompt):  # `2+2=` but `2 + 2 =`
        return prompt[: signs.start()][-1:].isspace()
    if last in ".," and before.isdecimal() and first.isdecimal():
        return False
    return not _closes(target)


def _closes(target: str) -> bool:
    """Whether a text begins with what stands close behind a word."""
    first, then = target[0], target[1:2]
    if first in ".:":  # but `.NET`
        return not then.isalnum()
    return first in ",;!?…،؛؟" or unicodedata.category(first) == "Pe" or CONTRACTION.match(target) is not None


def _template_says(tokenizer: PreTrainedTokenizerBase, prompt: str) -> bool | None:
    """Whether the chat template puts a space behind the end of this prompt, or None where that is none of its ends."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    end, gap = _assistant_turn(tokenizer, str(tokenizer.chat_template))
    return gap == " " if end and prompt.endswith(end) else None


@lru_cache(maxsize=8)
def _assistant_turn(tokenizer: PreTrainedTokenizerBase, template: str) -> tuple[str, str]:
    """How a prompt in the chat template ends before the assistant's words, and what stands between; else empty."""
    asked, said = {"role": "user", "content": "Qqq"}, {"role": "assistant", "content": "Aaa"}
    try:
        prompt = str(tokenizer.apply_chat_template([asked], add_generation_prompt=True, tokenize=False))
        whole = str(tokenizer.apply_chat_template([asked, said], tokenize=False))
    except Exception:  # a template may raise whatever it likes, and then says nothing about spaces
        return "", ""
    gap = whole.removeprefix(prompt).partition("Aaa")[0]
    if not whole.startswith(prompt) or gap not in ("", " "):
        return "", ""
    return prompt.rpartition("Qqq")[2], gap
