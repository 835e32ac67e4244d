"""Prompts that ask the same of another subject: names that the model itself says, and the subject's own name altered.

So the names are of the subject's kind and in the prompt's language. What the model says is as far from the subject as
other names are. An altered name shares a half with it, and looks like it even where the model does not know the kind.
"""

import random
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.models.generation import sampled_tokens
from roselora.models.inference import known_arguments
from roselora.models.partial_logits import logits_of
from roselora.models.tokenization import decode, encode, shared_beginning

SEED = 0

LOOKED_AT = 300
"""Among how many of the likeliest tokens those of the same sort are looked for."""

LIKELIEST = 12
"""From how many of the model's likeliest tokens one is drawn in a token's place: fewer give the same name again."""


def other_subjects(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, subject: str | None, count: int
) -> list[str]:
    """At most ``count`` prompts with other names, of as many tokens, half of them sampled and half altered.

    Where the subject is not known or not in the prompt, the prompt's second half takes its place: what then differs is
    the subject or what is asked of it.

    Raises:
        NonFiniteError: the model's logits are not finite.
    """
    named = _parts(tokenizer, prompt, subject)
    names = [*_sampled(model, tokenizer, named, -(-count // 2)), *_altered(model, tokenizer, named, count // 2)]
    found = dict.fromkeys(named.before + name + named.after for name in names if name)
    return [text for text in found if text.split() != prompt.split()]


class _Named(NamedTuple):
    """A prompt's text before and after the subject, and the tokens of what the model reads before it and of itself."""

    before: str
    after: str
    head: list[int]
    name: list[int]


def _parts(tokenizer: PreTrainedTokenizerBase, prompt: str, subject: str | None) -> _Named:
    start, end = len(prompt) // 2, len(prompt)
    if subject is not None and subject in prompt:
        start = prompt.index(subject)
        end = start + len(subject)
    # What stands before the name says of which kind it is; where it comes first, another prompt of its kind does.
    before = prompt[:start].rstrip()
    text = before or prompt + "\n"
    whole = encode(tokenizer, text + prompt[len(before) : end])
    split = shared_beginning(encode(tokenizer, text), whole)
    opening = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return _Named(prompt[:start], prompt[end:], [opening, *whole[:split]], whole[split:])


def _sampled(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, named: _Named, count: int) -> list[str]:
    starts = torch.tensor([named.head] * count, device=model.device)
    sampled = sampled_tokens(model, starts, new_tokens=len(named.name), seed=SEED)[:, len(named.head) :].tolist()
    # A line's end ends a name too, and so do the marks that end a sentence.
    return [_text(tokenizer, tokens).partition("\n")[0].rstrip("?.,:; ") for tokens in sampled]


@torch.no_grad()
def _altered(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, named: _Named, count: int) -> list[str]:
    """The name with one half replaced, in turn, by tokens of the same sort that the model finds likely there."""
    drawn, found = random.Random(SEED), []
    states = _read(model, [*named.head, *named.name])[len(named.head) - 1 : -1]
    logits = logits_of(model, states)
    likely = logits.topk(min(LOOKED_AT, logits.shape[1])).indices.tolist()
    half = (len(named.name) + 1) // 2
    for number in range(count):
        tokens = list(named.name)
        # A name of one token has no second half.
        for place in range(half) if number % 2 == 0 or len(tokens) == 1 else range(half, len(tokens)):
            sort = _sort(tokenizer, tokens[place])
            alike = [token for token in likely[place] if token != tokens[place] and _sort(tokenizer, token) == sort]
            if alike:
                tokens[place] = drawn.choice(alike[:LIKELIEST])
        found.append(_text(tokenizer, tokens))
    return found


def _read(model: PreTrainedModel, ids: list[int]) -> Tensor:
    body: Any = model.base_model
    given = torch.tensor([ids], device=model.device)
    states: Tensor = body(input_ids=given, **known_arguments(body, use_cache=False))[0][0]
    return states


def _text(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    return decode(tokenizer, tokens).strip()


def _sort(tokenizer: PreTrainedTokenizerBase, token: int) -> tuple[bool, str]:
    """Whether a token begins a word, and whether its first character is a capital, a small letter, a digit or other."""
    text = str(tokenizer.convert_ids_to_tokens(token))
    word = text.lstrip("\u0120\u2581")  # how tokenizers write the space before a word
    first = word[:1]
    kind = "digit" if first.isdigit() else "capital" if first.isupper() else "letter" if first.isalpha() else "other"
    return word != text, kind
