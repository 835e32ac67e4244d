"""A trained edit before it is committed: its delta, judged on the applied weights, and where it came from."""

import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.answers import SHOWN_TOKENS, ask, ask_each, holds
from roselora.editing.methods.gate.gate_edit import GateEdit
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.joint_edits import JointEdits
from roselora.editing.methods.previous_edits import PreviousEdits
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.token_batches import split_at_answer
from roselora.editing.methods.train_edit import Settings, TrainedEdit, train_edit, trained_gate_edit
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError, EditError
from roselora.files import dtype_name
from roselora.models.inference import as_usual
from roselora.models.tokenization import answer_of, context_of, decode, require_known
from roselora.user_files import shown

MARGIN_FACTORS = (1, 2, 4)
"""Margins to train to, in turn: in a low precision a small update can round away, a larger one stays."""

_IN_FILE = ("method", "settings", "versions", "update")
"""What of the provenance goes into the delta's own file."""


@dataclass(frozen=True)
class Proposal:
    """A trained edit that holds on the applied weights, and is in neither model nor store.

    Attributes:
        request: what was asked.
        delta: the update.
        provenance: JSON: method, settings, versions, training (steps, seconds), update (entries_changed, entries,
            sparsity, sparsity_bound), for `gate` the neurons (block, indices), and answers (kind, prompt,
            before, after).
    """

    request: EditRequest
    delta: SparseDelta
    provenance: dict[str, Any]


@as_usual()
def propose(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    overlay: Overlay,
    request: EditRequest,
    settings: Settings,
    earlier: PreviousEdits,
    on_step: Callable[[int, float], None] | None = None,
) -> Proposal:
    """Train one request on the model as it is, and judge the update where it will be kept.

    Raises:
        EditError: the target was not reached, or did not survive rounding; the model is as it was.
        ConfigError: the model cannot be adapted with these settings, or a prompt does not fit its context.
    """
    start = time.perf_counter()
    require_feasible(model, tokenizer, request, settings)
    before = ask(model, tokenizer, request, kept=True)
    for factor in MARGIN_FACTORS:
        attempt = replace(settings, margin=settings.margin * factor)
        try:
            trained = train_edit(model, tokenizer, overlay, request, attempt, earlier, on_step)
        except EditError as error:
            if attempt == settings:
                raise
            raise _rounded_away(model, request, f"{factor} times the margin was not learned") from error
        seconds = time.perf_counter() - start
        if proposal := _judged(model, tokenizer, overlay, request, attempt, trained, before, seconds):
            return proposal
    raise _rounded_away(model, request, f"not with {MARGIN_FACTORS[-1]} times the margin either")


def _rounded_away(model: PreTrainedModel, request: EditRequest, more: str) -> EditError:
    return EditError(
        f"The answer {request.target!r} did not survive rounding to {dtype_name(model.dtype)}, and {more}, so nothing "
        "was changed; load the model in float32."
    )


@as_usual()
def propose_together(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    overlay: Overlay,
    requests: Sequence[EditRequest],
    settings: GateSettings,
    earlier: PreviousEdits,
    on_proposal: Callable[[int, Proposal], None],
) -> list[int]:
    """Train some gated neuron edits together, and judge each on the model as it is by then.

    Args:
        requests: feasible ones, of which no two share a prompt.
        on_proposal: given a request's number and its edit, which it may commit; what it raises ends it.

    Returns:
        The numbers of those that were not learned, or do not hold as they were trained; `propose` tries more.

    Raises:
        EditError: there are not enough neurons.
    """
    left: list[int] = []
    before = ask_each(model, tokenizer, requests, kept=True)
    edits = JointEdits(model, tokenizer, requests, settings, earlier)
    start = time.perf_counter()

    def put(numbers: Sequence[int], made: Sequence[GateEdit]) -> None:
        nonlocal start
        seconds = (time.perf_counter() - start) / len(numbers)
        for number, edit in zip(numbers, made, strict=True):
            proposal = None
            if edit.reached:
                trained = trained_gate_edit(model, overlay, edit)
                request = requests[number]
                proposal = _judged(model, tokenizer, overlay, request, settings, trained, before[number], seconds)
            if proposal is None:
                left.append(number)
            else:
                on_proposal(number, proposal)
        start = time.perf_counter()

    edits.make(range(len(requests)), put)
    return left


def _judged(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    overlay: Overlay,
    request: EditRequest,
    settings: Settings,
    trained: TrainedEdit,
    before: list[str],
    seconds: float,
) -> Proposal | None:
    """What a trained edit is on the applied weights, or None if the target is not said there."""
    with _applied(overlay, trained.delta):
        after = ask(model, tokenizer, request, kept=True)
    if not holds(request, after):
        return None
    provenance = _provenance(request, settings, trained, before, after, seconds)
    facts = {"prompt": request.prompt, "target": request.target}
    described = SparseDelta(trained.delta.weights, {**facts, **{k: provenance[k] for k in _IN_FILE}})
    return Proposal(request, described, provenance)


def require_feasible(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, request: EditRequest, settings: Settings
) -> None:
    """Refuse at once what could only fail after long work.

    Raises:
        ConfigError: it is no request, the rank is above the model's width, the tokenizer cannot give the target back
            or has tokens that the model has not, or a prompt does not fit the model's context.
    """
    if not isinstance(request, EditRequest):
        raise ConfigError(f"Edits are asked for as a list of EditRequest, not {shown(request)}.")
    width = getattr(model.config, "hidden_size", None)
    if isinstance(settings, EditSettings) and width is not None and settings.rank > width:
        raise ConfigError(f"rank must be at most {width}, the model's width, not {settings.rank}.")
    context = context_of(model)
    for prompt in (*request.prompts, *request.keep):
        before, answer = split_at_answer(tokenizer, prompt, request.target, request.space)
        require_known(model, tokenizer, before, prompt)
        require_known(model, tokenizer, answer, request.target)
        said = answer_of(decode(tokenizer, answer))
        if said != request.target:
            alike = unicodedata.normalize("NFC", said) == unicodedata.normalize("NFC", request.target)
            wanted, given = map(ascii if alike else shown, (request.target, said))  # what looks alike is spelled out
            raise ConfigError(
                f"The tokenizer gives the target {wanted} back as {given}, so the model cannot say it; write it so "
                "that it comes back."
            )
        tokens = len(before) + len(answer) + SHOWN_TOKENS
        if context is not None and tokens > context:
            raise ConfigError(
                f"The prompt {shown(prompt)} takes {tokens} tokens with its answer; the model reads {context}; "
                "shorten it."
            )


@contextmanager
def _applied(overlay: Overlay, delta: SparseDelta) -> Iterator[None]:
    overlay.apply("trial", delta)
    try:
        yield
    finally:
        overlay.remove("trial")


def _provenance(
    request: EditRequest,
    settings: Settings,
    trained: TrainedEdit,
    before: list[str],
    after: list[str],
    seconds: float,
) -> dict[str, Any]:
    kinds = ["prompt", *["rephrasing"] * len(request.rephrasings), *["keep"] * len(request.keep)]
    rows = zip(kinds, (*request.prompts, *request.keep), before, after, strict=True)
    return {
        **trained.about,
        "settings": asdict(settings),
        "versions": {name: metadata.version(name) for name in ("roselora", "torch", "transformers", "peft")},
        "training": {"steps": trained.steps, "seconds": round(seconds, 2)},
        "answers": [{"kind": k, "prompt": p, "before": b, "after": a} for k, p, b, a in rows],
    }
