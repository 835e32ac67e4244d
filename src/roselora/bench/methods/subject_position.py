"""Where a request's subject ends in a text: the token at which a model has gathered what it knows about the subject."""

import re

from transformers import PreTrainedTokenizerBase

from roselora.errors import UnsupportedError
from roselora.models.tokenization import encode


def subject_end(tokenizer: PreTrainedTokenizerBase, text: str, subject: str | None, start: int = 0) -> int:
    """The index, among the tokens of ``text``, of the last token that holds a part of the subject.

    The search starts at the character ``start``. It prefers whole words to parts of words, then the subject's own case
    to any other, then the last occurrence, which is nearest to the answer. If there is no subject, or the text does not
    contain it, the result is the text's last token, at which the answer is formed.

    Raises:
        UnsupportedError: the tokenizer cannot say which characters a token stands for.
    """
    if not tokenizer.is_fast:
        raise UnsupportedError(
            f"{type(tokenizer).__name__} does not report its tokens' positions in the text: use a fast tokenizer."
        )
    encoded = tokenizer(text, return_offsets_mapping=True)
    ids = encode(tokenizer, text)
    dropped = next(at for at in range(len(encoded.input_ids)) if encoded.input_ids[at : at + len(ids)] == ids)
    last = len(ids) - 1
    span = _find(text, subject.strip(), start) if subject and subject.strip() else None
    if span is None:
        return last
    tokens = [index - dropped for index, (a, b) in enumerate(encoded.offset_mapping) if a < span[1] and b > span[0]]
    return tokens[-1] if tokens else last


def _find(text: str, subject: str, start: int) -> tuple[int, int] | None:
    """The range of characters of the subject, its end excluded."""
    name = re.escape(subject)
    for pattern in (rf"(?<!\w){name}(?!\w)", name):
        for flags in (re.NOFLAG, re.IGNORECASE):
            found = list(re.compile(pattern, flags).finditer(text, start))
            if found:
                return found[-1].span()
    return None
