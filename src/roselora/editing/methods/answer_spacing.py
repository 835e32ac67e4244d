"""Whether a space stands between a prompt and its answer, by the language, the prompt's end and the chat template.

A target is trained as the model will generate it. After ``2+2=``, an opening quotation mark or a newline there is no
space, nor in languages that are written without spaces. After a chat template's opening of the assistant's turn there
is what the template puts there.
"""

import re
import unicodedata

from transformers import PreTrainedTokenizerBase

from roselora.editing.forms import assistant_turn

UNSPACED = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff"  # Thai, Lao, Tibetan, Burmese, Khmer
    "\u2e80-\u312f\u31a0-\u4dbf\u4e00-\ua4cf"  # Han, kana, bopomofo, Yi, and their punctuation
    "\uf900-\ufaff\ufe30-\ufe4f\uff01-\uff9f\U00020000-\U0003ffff]"  # more Han, and forms of full width
)
CONTRACTION = re.compile(r"['\u2019](?:s|t|m|d|re|ve|ll)\b", re.IGNORECASE)
# Marks that can open or close the same quotation, which differ between languages.
QUOTES = ('"', "'", "`", "\u00ab\u00bb", "\u2039\u203a", "\u201c\u201d\u201e", "\u2018\u2019\u201a")
APOSTROPHE = re.compile(r"(?<=\w)['\u2019](?=\w)")
POSSESSIVE = re.compile(r"\w[sxz]['\u2019]$", re.IGNORECASE)
PREFIXES = "#@\\¿¡"
CLOSING_MARKUP = (
    re.compile(r"(?P<end></\w[^<>]*>)$"),
    re.compile(r"(?<![\w*_~])([*_~]+)(?=[^\s*_~]).*(?<=[^\s*_~])(?P<end>\1)$"),
)


def continued(tokenizer: PreTrainedTokenizerBase, prompt: str, target: str, space: bool | None = None) -> str:
    """The target as it stands after the prompt, with or without a space before it.

    Args:
        space: whether the user wants a space; it has no effect if the prompt ends in whitespace.
    """
    if not prompt or prompt[-1].isspace():
        return target
    if space is None:
        space = _template_space(tokenizer, prompt)
    if space is None:
        space = _wants_space(prompt, target)
    return f" {target}" if space else target


def _wants_space(prompt: str, target: str) -> bool:
    """Whether a writer would put a space between them."""
    for markup in CLOSING_MARKUP:  # what comes before the markup decides
        if (found := markup.search(prompt)) and (within := prompt[: found.start("end")].rstrip()):
            return _wants_space(within, target)
    last, before, first = prompt[-1], prompt[-2:-1], target[0]
    if UNSPACED.match(last) or (UNSPACED.match(first) and UNSPACED.search(prompt.split()[-1])):
        return False
    kind = unicodedata.category(last)
    if any(last in family for family in QUOTES):
        return _closes_quotation(prompt) and not _closes(target)
    if kind == "Ps" or last in PREFIXES:
        return False
    if kind == "Sc" and not prompt[:-1].rstrip()[-1:].isdecimal():  # `$` before a sum, but `100 €`
        return False
    if _is_sign(last):  # `2+2=` but `2 + 2 =`
        start = next((place for place in range(len(prompt), 0, -1) if not _is_sign(prompt[place - 1])), 0)
        return prompt[:start][-1:].isspace()
    if last in ".," and before.isdecimal() and first.isdecimal():
        return False
    return not _closes(target)


def _is_sign(character: str) -> bool:
    """Whether it is an operator, a dash, an arrow or the like, which has spaces on both sides or on neither side."""
    if character in "*/&·" or unicodedata.category(character) in ("Sm", "Sk", "Pd", "Pc"):
        return True
    return "ARROW" in unicodedata.name(character, "")


def _closes_quotation(prompt: str) -> bool:
    """Whether the quotation mark or apostrophe at a prompt's end belongs to the text before it."""
    last, before = prompt[-1], prompt[-2:-1]
    family = next(family for family in QUOTES if last in family)
    opened = sum(character in family for character in APOSTROPHE.sub("", prompt[:-1])) % 2 == 1
    if not before or before.isspace():  # usually an opening one, but `« oui »`
        return opened and unicodedata.category(last) in ("Pi", "Pf")
    if opened:
        return True
    if last in "'\u2019" and before.isalpha():  # `the students'`, but `l'` and `dell'` belong to the next word
        return POSSESSIVE.search(prompt) is not None
    if UNSPACED.match(before):
        return False
    return before.isalnum() or before in ".,!?…%" or unicodedata.category(before) == "Pe"


def _closes(target: str) -> bool:
    """Whether a text begins with punctuation or a contraction that follows a word without a space."""
    first, then = target[0], target[1:2]
    if first in ".:":  # but `.NET`
        return not then.isalnum()
    return first in ",;!?…،؛؟" or unicodedata.category(first) == "Pe" or CONTRACTION.match(target) is not None


def _template_space(tokenizer: PreTrainedTokenizerBase, prompt: str) -> bool | None:
    """Whether the chat template puts a space after this prompt, or None if the prompt does not end as it does."""
    end, gap = assistant_turn(tokenizer)
    return None if gap is None or not end or not prompt.endswith(end) else gap == " "
