"""Prompts that ask the same of another subject: a name that the model itself says in the subject's place.

So the names are of the subject's kind and in the prompt's language.
"""

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.models.generation import sampled_tokens
from roselora.models.tokenization import decode, encode, shared_beginning

SEED = 0


def other_subjects(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, subject: str | None, count: int
) -> list[str]:
    """At most ``count`` prompts with other names, which are sampled from the model and have as many tokens.

    Where the subject is not known or not in the prompt, the prompt's second half takes its place: what then differs is
    the subject or what is asked of it.

    Raises:
        NonFiniteError: the model's logits are not finite.
    """
    named = subject is not None and subject in prompt
    start = prompt.index(subject) if subject is not None and named else len(prompt) // 2
    end = start + len(subject) if subject is not None and named else len(prompt)
    # What stands before the name says of which kind it is; where it comes first, another prompt of its kind does.
    before = prompt[:start].rstrip() or prompt + "\n"
    head = encode(tokenizer, before)
    whole = encode(tokenizer, before + prompt[len(prompt[:start].rstrip()) : end])
    length = len(whole) - shared_beginning(head, whole)
    opening = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    starts = torch.tensor([[opening, *head]] * count, device=model.device)
    sampled = sampled_tokens(model, starts, new_tokens=length, seed=SEED)[:, starts.shape[1] :].tolist()
    # A line's end ends a name too, and so do the marks that end a sentence.
    names = [decode(tokenizer, tokens).strip().partition("\n")[0].rstrip("?.,:; ") for tokens in sampled]
    found = dict.fromkeys(prompt[:start] + name + prompt[end:] for name in names if name)
    return [text for text in found if text.split() != prompt.split()]
