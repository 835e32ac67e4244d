"""Prompts that ask the same of another subject: names that the model itself says next in a list that begins with it.

So the names are of the subject's kind and in its language. What begins with the likeliest tokens comes in turn: of a
kind that the model knows, other names of it ("King Lear" beside "Hamlet"); of one that it does not know, names that
look like the subject's.
"""

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.models.generation import greedy_tokens
from roselora.models.inference import default_torch_modes, eval_mode
from roselora.models.tokenization import answer_of, decode, encode

BEGINNINGS = 4
"""How many of the likeliest tokens are looked at for each name, because not all begin with a letter."""

LONGER = 3
"""By how many tokens another name may be longer than the subject's; what is longer is cut off."""


def other_subjects(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, subject: str | None, count: int
) -> list[str]:
    """At most ``count`` prompts with other names, the likeliest first.

    Where the subject is not known or not in the prompt, the prompt's second half takes its place: what then differs is
    the subject or what is asked of it.
    """
    name = subject if subject is not None and subject in prompt else prompt[len(prompt) // 2 :].strip() or prompt
    before, _, after = prompt.partition(name)
    found = dict.fromkeys(_listed(model, tokenizer, name, count))
    return [before + other + after for other in found if other and not _alike(other, name)]


def _alike(one: str, other: str) -> bool:
    """Whether one name is part of the other, and so perhaps of the same."""
    return one.casefold() in other.casefold() or other.casefold() in one.casefold()


@default_torch_modes()
@torch.no_grad()
def _listed(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, count: int) -> list[str]:
    """What comes second in a list whose first entry is the name, after each of the likeliest beginnings."""
    text = f"1. {name}\n2."
    head = encode(tokenizer, text)
    start = len(decode(tokenizer, head))

    def entry(ids: list[int]) -> str:
        return decode(tokenizer, [*head, *ids])[start:]

    with eval_mode(model):
        logits = model(torch.tensor([head], device=model.device)).logits[0, -1]
    likely = logits.topk(min(BEGINNINGS * count, len(logits))).indices.tolist()
    begun = [token for token in likely if any(map(str.isalpha, entry([token])))][:count]
    texts = [text + entry([token]) for token in begun]
    tokens = len(encode(tokenizer, name)) + LONGER
    rest = greedy_tokens(model, tokenizer, texts, max_new_tokens=tokens, batch_size=count)
    entries = [entry([token, *more]) for token, more in zip(begun, rest, strict=True)]
    # A line's end ends a name too, and so do the marks that end a sentence.
    return [answer_of(each).rstrip("?.,:; ") for each in entries]
