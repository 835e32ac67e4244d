"""The texts of a gated neuron edit as tokens, and what an MLP reads in them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.forms import AskedText, asked_texts
from roselora.editing.methods.gate.generated_rephrasings import generated_rephrasings
from roselora.editing.methods.gate.negatives import related_prompts
from roselora.editing.methods.gate.other_subjects import other_subjects
from roselora.editing.methods.gate.prompt_subjects import subject_of
from roselora.editing.methods.token_batches import IGNORED, prompt_and_answer
from roselora.editing.request import SYSTEM, EditRequest, Form
from roselora.models.activation_hooks import activations
from roselora.models.mlp_neurons import Neurons
from roselora.models.padding import pad_rows, padded_inputs
from roselora.models.prefix_cache import SplitRow

OPENINGS = ("Answer the question. ", "I have a question. ", "The train was late. ")
"""What each prompt is put behind too, so that an edit holds in the middle of a text; in chat both are one turn."""

OTHER_SUBJECTS = 12
"""How many other subjects the prompt is asked of."""

READ_TOGETHER = 32
"""Rows in one pass; more are not faster on a CPU, because their states leave its cache."""


@dataclass(frozen=True)
class PositiveRows:
    """A request's prompts after each opening in all forms, and generated rephrasings of them, each with the target.

    Attributes:
        rows: of each a prefix and a suffix, which begins at the prompt's last token, which predicts the target's first.
        prompts: how many of the rows, the first ones, are prompts after an opening; the others are rephrasings.
        labels: (rows, longest answer) int64, the token that must follow each of the suffix's, or IGNORED.
    """

    request: EditRequest
    rows: list[SplitRow]
    prompts: int
    labels: Tensor


def positive_rows(tokenizer: PreTrainedTokenizerBase, request: EditRequest) -> PositiveRows:
    """The rows on which a request is trained.

    Raises:
        ConfigError: the tokenizer has no end-of-sequence token, or a text has no tokens.
    """
    prompts = [(each.text, each.space) for each in opened_texts(tokenizer, request)]
    # Rephrasings do not end as the prompts do, so what the user says about the space does not hold for them.
    rephrased = generated_rephrasings(request)
    rephrasings = [(each.text, None) for text in rephrased for each in asked_texts(tokenizer, text, request.form)[:2]]
    rows, following = [], []
    for prompt, space in (*prompts, *rephrasings):
        head, answer = prompt_and_answer(tokenizer, prompt, request.target, space)
        rows.append(SplitRow(head[:-1], [head[-1], *answer[:-1]]))
        following.append(answer)
    return PositiveRows(request, rows, len(prompts), pad_rows(following, fill=IGNORED))


def negative_texts(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, request: EditRequest) -> list[list[str]]:
    """A request's negatives as the model reads them, in groups: other relations of the subject, usual and odd ones;
    other subjects; and keep-prompts.

    All but the last stand in the forms of the prompts in turn, so that the form does not tell a negative from a prompt.
    """
    subject, count = subject_of(request), -(-OTHER_SUBJECTS // len(request.prompts))
    others = [text for prompt in request.prompts for text in other_subjects(model, tokenizer, prompt, subject, count)]
    others = [text for text in dict.fromkeys(others) if text not in request.prompts]
    kept = [each.text for text in request.keep for each in asked_texts(tokenizer, text, request.form)]
    groups = [*related_prompts(request), others]
    return [*(_in_turn(tokenizer, texts, request.form) for texts in groups), kept]


def opened_texts(tokenizer: PreTrainedTokenizerBase, request: EditRequest) -> list[AskedText]:
    """A request's prompts in all of their forms; and behind each opening in those without a system prompt.

    What each text asks is the request's own prompt.
    """
    found = []
    for prompt in request.prompts:
        found += asked_texts(tokenizer, prompt, request.form, request.space)
        opened = [asked_texts(tokenizer, opening + prompt, request.form, request.space) for opening in OPENINGS]
        # One system prompt shows what any of them changes.
        found += [replace(each, prompt=prompt) for texts in opened for each in texts if each.form != SYSTEM]
    return found


def _in_turn(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], form: Form) -> list[str]:
    """Each text in one of its forms, which take turns."""
    found = []
    for number, text in enumerate(texts):
        forms = asked_texts(tokenizer, text, form)
        found.append(forms[number % len(forms)].text)
    return found


def read_rows(model: PreTrainedModel, neurons: Neurons, rows: Sequence[list[int]]) -> list[Tensor]:
    """What the neurons read at each row's tokens, (tokens, width) fp32; no layer above them runs.

    Equal rows are read once, and rows of similar length together, so that there is little padding.
    """
    shortest_first = sorted(set(map(tuple, rows)), key=len)
    found: dict[tuple[int, ...], Tensor] = {}
    for start in range(0, len(shortest_first), READ_TOGETHER):
        batch = shortest_first[start : start + READ_TOGETHER]
        found.update(zip(batch, _read_batch(model, neurons, batch), strict=True))
    return [found[tuple(row)] for row in rows]


def _read_batch(model: PreTrainedModel, neurons: Neurons, rows: Sequence[tuple[int, ...]]) -> list[Tensor]:
    inputs = {name: tensor.to(model.device) for name, tensor in padded_inputs(rows).items()}
    read = activations(model, inputs, [neurons.entrance])[neurons.entrance].input
    states = read.reshape(*inputs["input_ids"].shape, -1).float()
    return [own[: len(row)] for own, row in zip(states, rows, strict=True)]
