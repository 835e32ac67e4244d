"""Training edits and trying them on the model, before anything is committed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from roselora.editing.edit_answers import answers_to, holds
from roselora.editing.edited_weights import EditedWeights
from roselora.editing.feasibility import require_feasible
from roselora.editing.methods.gate.gate_edit import GateEdit
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.joint_edits import JointEdits
from roselora.editing.methods.train_edit import Settings, TrainedEdit, train_edit, trained_gate_edit
from roselora.editing.proposal import Proposal
from roselora.editing.request import EditRequest
from roselora.errors import EditError
from roselora.files import dtype_name
from roselora.models.inference import default_torch_modes

MARGIN_FACTORS = (1, 2, 4)
"""Factors of the margin, tried in turn: in bf16 or fp16 a small update can round away where a larger one stays."""


@default_torch_modes()
def propose(
    edited: EditedWeights,
    request: EditRequest,
    settings: Settings,
    beside: Sequence[EditRequest] = (),
    on_step: Callable[[int, float], None] | None = None,
) -> Proposal:
    """Train one request on the model as it is, and try the rounded update in its weights.

    Args:
        beside: requests that are made in the same call, and must not be disturbed either.
        on_step: called with each step's number and loss.

    Raises:
        EditError: the target was not reached, or did not survive rounding; the model is unchanged.
        ConfigError: the model cannot be adapted with these settings, or a prompt does not fit its context.
    """
    start = time.perf_counter()
    model, tokenizer, previous = edited.model, edited.tokenizer, edited.previous_edits(beside)
    require_feasible(model, tokenizer, request, settings)
    (before,) = answers_to(model, tokenizer, [request], keep=True)
    for factor in MARGIN_FACTORS:
        attempt = replace(settings, margin=settings.margin * factor)
        try:
            trained = train_edit(model, tokenizer, edited.overlay, request, attempt, previous, on_step)
        except EditError as error:
            if attempt == settings:
                raise
            raise _rounded_away(edited, request, f"{factor} times the margin was not learned") from error
        seconds = time.perf_counter() - start
        if proposal := _try_out(edited, request, attempt, trained, before, seconds):
            return proposal
    raise _rounded_away(edited, request, f"not with {MARGIN_FACTORS[-1]} times the margin either")


@default_torch_modes()
def propose_together(
    edited: EditedWeights,
    requests: Sequence[EditRequest],
    settings: GateSettings,
    beside: Sequence[EditRequest],
    commit: Callable[[int, Proposal], None],
) -> list[int]:
    """Train several gated edits together, and try each on the model as it is by then.

    Args:
        requests: feasible ones, no two of which share a prompt.
        beside: requests that are made in the same call, but not now.
        commit: called with a request's number and its edit before the next batch is trained, which must see that edit
            in the weights. What it raises ends the training.

    Returns:
        The numbers of those that were not learned, or do not hold in the weights; :func:`propose` may still make them.

    Raises:
        EditError: there are not enough neurons.
    """
    failed: list[int] = []
    before = answers_to(edited.model, edited.tokenizer, requests, keep=True)
    edits = JointEdits(edited.model, edited.tokenizer, requests, settings, edited.previous_edits(beside))
    start = time.perf_counter()

    def put(numbers: Sequence[int], batch: Sequence[GateEdit]) -> None:
        nonlocal start
        seconds = (time.perf_counter() - start) / len(numbers)
        for number, edit in zip(numbers, batch, strict=True):
            request, proposal = requests[number], None
            if edit.reached:
                trained = trained_gate_edit(edited.model, edited.overlay, edit)
                proposal = _try_out(edited, request, settings, trained, before[number], seconds)
            if proposal is None:
                failed.append(number)
            else:
                commit(number, proposal)
        start = time.perf_counter()

    edits.make(range(len(requests)), put)
    return failed


def _try_out(
    edited: EditedWeights,
    request: EditRequest,
    settings: Settings,
    trained: TrainedEdit,
    before: Sequence[str],
    seconds: float,
) -> Proposal | None:
    """The trained edit as a proposal, or None if the model does not say the target with it."""
    with edited.trying(trained.delta):
        (after,) = answers_to(edited.model, edited.tokenizer, [request], keep=True)
    return Proposal.of(request, settings, trained, before, after, seconds) if holds(request, after) else None


def _rounded_away(edited: EditedWeights, request: EditRequest, more: str) -> EditError:
    return EditError(
        f"The answer {request.target!r} did not survive rounding to {dtype_name(edited.model.dtype)}, and {more}, so "
        "nothing was changed; load the model in float32."
    )
