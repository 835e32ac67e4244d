"""What ``roselora serve-check`` asks: an edited or trained model's own answers are the ones expected."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from roselora.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from roselora.editing.request import EditRequest
    from roselora.serving.serve_check import Question

NEIGHBOURS = 2
"""How many other subjects are asked for beside each edit's own."""


def questions(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    edits: Iterable["EditRequest"],
    prompts: Sequence[str] | None = None,
) -> list["Question"]:
    """The prompts of edits, and others, in their forms, with the model's answers.

    Args:
        model: with the edits, or the trained adapter, in its weights.
        tokenizer: its tokenizer.
        edits: the facts of the active edits.
        prompts: the others; None for the same prompts of other subjects. Those of edits are asked once.

    Raises:
        ConfigError: there is nothing to ask for, or a prompt leaves no room for an answer.
    """
    from roselora.editing.forms import asked_texts, request_texts
    from roselora.editing.methods.gate.other_subjects import other_subjects
    from roselora.editing.methods.gate.prompt_subjects import subject_of
    from roselora.models.generation import greedy_tokens
    from roselora.models.tokenization import context_of, decode, encode
    from roselora.serving.serve_check import TOKENS, Question
    from roselora.user_files import shown

    asked = []
    for request in edits:
        asked += [(text, True) for text in request_texts(tokenizer, request)]
        if prompts is None:
            for prompt in other_subjects(model, tokenizer, request.prompt, subject_of(request), NEIGHBOURS):
                asked += [(text, False) for text in asked_texts(tokenizer, prompt, request.form, request.space)]
    own = {text.text for text, _ in asked}
    texts = [text for prompt in prompts or () for text in asked_texts(tokenizer, prompt, "both")]
    asked += [(text, False) for text in texts if text.text not in own]
    if not asked:
        raise ConfigError("There is no active edit in the store, so there is nothing to ask for.")
    context = context_of(model)
    ids = [tuple(encode(tokenizer, text.text)) for text, _ in asked]
    for (text, _), tokens in zip(asked, ids, strict=True):
        # Programs differ in what they do at the context's end, and none of that is about the export.
        if context is not None and len(tokens) + TOKENS > context:
            raise ConfigError(
                f"{shown(text.prompt)} leaves no room for {TOKENS} tokens in the model's {context}; shorten it."
            )
    answers = greedy_tokens(model, tokenizer, [text.text for text, _ in asked], max_new_tokens=TOKENS)
    return [
        Question(text.prompt, text.form, own, decode(tokenizer, answer), edited)
        for (text, edited), own, answer in zip(asked, ids, answers, strict=True)
    ]
