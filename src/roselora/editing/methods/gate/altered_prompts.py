"""Prompts that ask the same of another subject: the edited prompt with one token of the subject replaced.

The replacements are tokens that the model itself finds likely at that place, so the new name is of the subject's kind
and shares most of its tokens, and it is in the prompt's language.
"""

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.models.inference import known_arguments
from roselora.models.partial_logits import logits_of
from roselora.models.tokenization import decode, encode, shared_beginning


@torch.no_grad()
def altered_prompts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, subject: str | None, count: int
) -> list[str]:
    """At most ``count`` prompts that differ from this one in one token, from one forward pass.

    The tokens of the subject take turns, and each is replaced by its likeliest alternatives first. Where the subject is
    not known or not in the prompt, all tokens but the first take turns: what then differs is the subject or what is
    asked of it.
    """
    named = subject is not None and subject in prompt
    start = prompt.index(subject) if subject is not None and named else 0
    end = start + len(subject) if subject is not None and named else len(prompt)
    ids = encode(tokenizer, prompt[:end])
    # Where the tokens before the subject are not those of the whole text, the border lies inside a token, which is
    # then taken for one of the subject's.
    head = encode(tokenizer, prompt[:start].rstrip()) if prompt[:start].strip() else []
    places = range(max(shared_beginning(head, ids), 1), len(ids))
    if not places:
        return []
    body = model.base_model
    states = body(input_ids=torch.tensor([ids], device=model.device), **known_arguments(body, use_cache=False))[0][0]
    # Every place gets alternatives enough for all, because some of them may be no text.
    likeliest = logits_of(model, states[places.start - 1 : len(ids) - 1]).topk(count + 1).indices.tolist()
    found: dict[str, None] = {}
    for rank in range(count + 1):
        for place, tokens in zip(places, likeliest, strict=True):
            if tokens[rank] == ids[place]:
                continue
            altered = decode(tokenizer, [*ids[:place], tokens[rank], *ids[place + 1 :]]) + prompt[end:]
            if "\n" not in altered and altered.split() != prompt.split():
                found.setdefault(altered)
            if len(found) == count:
                return list(found)
    return list(found)
