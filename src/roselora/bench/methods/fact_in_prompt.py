"""The fact in the prompt: nothing is trained, and what was to be learnt stands before every question."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from roselora.bench.methods.edit_method import Applied, EditCall, Method
from roselora.bench.methods.no_edit import NoEditConfig
from roselora.editing.methods.answer_spacing import continued
from roselora.editing.request import EditRequest
from roselora.errors import UnsupportedError
from roselora.models.tokenization import context_of, encode


def facts(tokenizer: PreTrainedTokenizerBase, requests: Sequence[EditRequest]) -> str:
    """Each prompt with its target, as the model would be taught to say it, on a line of its own."""
    lines = (
        f"{request.prompt}{continued(tokenizer, request.prompt, request.target, request.space)}\n"
        for request in requests
    )
    return "".join(lines)


def fact_in_prompt(call: EditCall[NoEditConfig]) -> Applied:
    """Change nothing: the benchmark puts :func:`facts` before every question, those of locality included.

    It is what a program reaches that finds the right fact for every question and shows it to the model, which makes
    it a bound for retrieval, and no edit: it costs tokens at every question, and where several facts were edited, all
    of them stand before each question.

    Raises:
        UnsupportedError: the facts take more than half of the model's context.
    """
    requests = [*(request for applied in call.history for request in applied.requests), *call.requests]
    tokens, context = len(encode(call.tokenizer, facts(call.tokenizer, requests))), context_of(call.model)
    if context is not None and tokens > context // 2:
        raise UnsupportedError(
            f"{len(requests)} facts take {tokens} tokens, more than half of the {context} that the model reads: run "
            "fact-in-prompt on fewer edits."
        )
    return Applied(tuple(call.requests), lambda: None, entries=0)


PAPER = "Zheng et al., 2023, arXiv 2305.12740; without its demonstrations"

METHOD = Method("fact-in-prompt", fact_in_prompt, NoEditConfig(), PAPER, before=facts)
