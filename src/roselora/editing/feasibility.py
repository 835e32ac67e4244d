"""Whether a model can be edited as a request asks, checked before any long work."""

import unicodedata

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.edit_answers import SHOWN_TOKENS
from roselora.editing.forms import asked_texts, request_texts
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.token_batches import split_at_answer
from roselora.editing.methods.train_edit import Settings
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError
from roselora.models.tokenization import answer_of, context_of, decode, require_known
from roselora.user_files import shown


def require_feasible(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, request: EditRequest, settings: Settings
) -> None:
    """Refuse what would only fail after long work.

    Raises:
        ConfigError: this is not a request, the rank is above the model's width, there is no chat template to ask it in,
            the tokenizer cannot reproduce the target or has tokens that the model lacks, or a prompt does not fit into
            the model's context.
    """
    if not isinstance(request, EditRequest):
        raise ConfigError(f"edit_many takes a list of EditRequest, and in it is {shown(request)}.")
    width = getattr(model.config, "hidden_size", None)
    if isinstance(settings, EditSettings) and width is not None and settings.rank > width:
        raise ConfigError(f"rank must be at most {width}, the model's width, not {settings.rank}.")
    for fact in request.facts:
        _require_fact(model, tokenizer, fact)


def _require_fact(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, fact: EditRequest) -> None:
    asked = request_texts(tokenizer, fact)
    asked += [text for prompt in fact.keep for text in asked_texts(tokenizer, prompt, fact.form, fact.space)]
    for text in asked:
        prompt_ids, target_ids = split_at_answer(tokenizer, text.text, fact.target, text.space)
        require_known(model, tokenizer, prompt_ids, text.text)
        require_known(model, tokenizer, target_ids, fact.target)
        _require_reproducible(tokenizer, target_ids, fact.target)
        tokens, context = len(prompt_ids) + len(target_ids) + SHOWN_TOKENS, context_of(model)
        if context is not None and tokens > context:
            raise ConfigError(
                f"The prompt {shown(text.text)} takes {tokens} tokens with its answer; the model reads {context}; "
                "shorten it."
            )


def _require_reproducible(tokenizer: PreTrainedTokenizerBase, target_ids: list[int], target: str) -> None:
    decoded = answer_of(decode(tokenizer, target_ids))
    if decoded != target:
        same_look = unicodedata.normalize("NFC", decoded) == unicodedata.normalize("NFC", target)
        wanted, given = map(ascii if same_look else shown, (target, decoded))  # escapes show where they differ
        raise ConfigError(
            f"The tokenizer gives the target {wanted} back as {given}, so the model cannot say it; write it in the "
            "form that comes back."
        )
