"""The texts that an edit by factors is trained with: where the answer must stand, and where nothing may change."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.forms import AskedText, asked_texts, request_texts
from roselora.editing.methods.gate.generated_rephrasings import generated_rephrasings
from roselora.editing.methods.gate.negatives import related_prompts
from roselora.editing.methods.gate.prompt_subjects import subject_of
from roselora.editing.methods.gate.training_texts import OPENINGS
from roselora.editing.request import BARE, EditRequest
from roselora.models.inference import known_arguments
from roselora.models.tokenization import decode, encode, shared_beginning

BEHIND = OPENINGS[-2:]
"""What a prompt is also put behind, so that the edit holds in the middle of a text."""

REPHRASINGS, ALTERED, RELATED, IN_CHAT = 2, 10, 8, 4
"""How many generated rephrasings, altered names and other relations there are, and how many of the altered and the
related prompts are asked in chat too."""

LIKELIEST = 12
"""From how many of the model's likeliest tokens one is drawn in a name's place: fewer give the same name again."""


@dataclass(frozen=True)
class RoseTexts:
    """The texts of one edit.

    Attributes:
        prompts: the request's prompts in all forms, and behind each opening: training waits for all of them.
        rephrasings: prompts made by templates, which are trained on too.
        renamed: prompts with another name in the subject's place, at which nothing may change.
        related: other relations of the subject, likewise.
    """

    prompts: list[AskedText]
    rephrasings: list[AskedText] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    related: list[str] = field(default_factory=list)


def rose_texts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, request: EditRequest, drawn: random.Random
) -> RoseTexts:
    """The texts of a request, of which the negatives are drawn at random. Without a subject there are no negatives."""
    prompts = request_texts(tokenizer, request)
    if request.form != "chat":
        behind = (opening + prompt for opening in BEHIND for prompt in request.prompts)
        prompts += [AskedText(text, BARE, text, request.space) for text in behind]
    related, subject = [*chain.from_iterable(related_prompts(request))], subject_of(request)
    renamed = [] if subject is None else altered_names(model, tokenizer, request.prompt, subject, drawn)
    related = drawn.sample(related, min(RELATED, len(related)))

    def asked(texts: Sequence[str], in_chat: int) -> list[AskedText]:
        """Each in its first form, and some in the second too."""
        forms = [asked_texts(tokenizer, text, request.form) for text in texts]
        return [own[0] for own in forms] + [form for own in forms[:in_chat] for form in own[1:2]]

    return RoseTexts(
        prompts,
        asked(generated_rephrasings(request)[:REPHRASINGS], 1),
        [each.text for each in asked(renamed, IN_CHAT)],
        [each.text for each in asked(related, IN_CHAT)],
    )


@torch.no_grad()
def altered_names(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, subject: str, drawn: random.Random
) -> list[str]:
    """The prompt with tokens of the subject replaced by what the model would say in their place.

    So the names are of the subject's kind, and some of them share a half with it: the hardest for an edit to tell
    apart. Only tokens of the same sort take each other's place: beginnings of words that of beginnings, capitals that
    of capitals, digits that of digits.
    """
    at = prompt.find(subject)
    if at < 0:
        return []
    ids = encode(tokenizer, prompt)
    start, end = (shared_beginning(encode(tokenizer, prompt[:stop].rstrip()), ids) for stop in (at, at + len(subject)))
    opening = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    given = torch.tensor([[opening, *ids]], device=model.device)
    forward: Any = model
    logits = forward(input_ids=given, **known_arguments(model, use_cache=False)).logits[0]
    others: dict[int, list[int]] = {}
    for place in range(start, end):
        sort = _sort(tokenizer, ids[place])
        likely = logits[place].topk(min(25 * LIKELIEST, logits.shape[-1])).indices.tolist()
        alike = [token for token in likely if token != ids[place] and _sort(tokenizer, token) == sort]
        if sort[1] != "other" and alike:
            others[place] = alike[:LIKELIEST]
    half = (start + end + 1) // 2
    parts = (range(start, end), range(start, half), range(half, end))
    found: dict[str, None] = {}
    for number in range(ALTERED):
        name = list(ids)
        for place in set(parts[number % len(parts)]) & others.keys():
            name[place] = drawn.choice(others[place])
        found[decode(tokenizer, name)] = None
    return [text for text in found if text != prompt]


def _sort(tokenizer: PreTrainedTokenizerBase, token: int) -> tuple[bool, str]:
    """Whether a token begins a word, and whether its first character is a capital, a small letter, a digit or other."""
    text = str(tokenizer.convert_ids_to_tokens(token))
    word = text.lstrip("\u0120\u2581")  # how tokenizers write the space before a word
    first = word[:1]
    kind = "digit" if first.isdigit() else "capital" if first.isupper() else "letter" if first.isalpha() else "other"
    return word != text, kind
