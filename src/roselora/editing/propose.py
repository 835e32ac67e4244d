"""Training one edit and trying it in the model's weights, before anything is committed."""

import time
from collections.abc import Sequence
from dataclasses import replace

from roselora.editing.edit_answers import GivenAnswer, answers_to, holds
from roselora.editing.edited_weights import EditedWeights
from roselora.editing.feasibility import require_feasible
from roselora.editing.methods.margin_training import OnStep
from roselora.editing.methods.train_edit import Settings, TrainedEdit, train_edit
from roselora.editing.proposal import Proposal
from roselora.editing.propose_together import propose_together
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
    on_step: OnStep | None = None,
) -> Proposal:
    """Train one request on the model as it is, with its consequences, and try the rounded update in its weights.

    Args:
        beside: requests that are made in the same call, and must not be disturbed either.
        on_step: called with each step's number and loss.

    Raises:
        EditError: the target was not reached, or did not survive rounding; the model is unchanged.
        ConfigError: the model cannot be adapted with these settings, or a prompt does not fit its context.
    """
    if request.consequences:

        def one(fact: EditRequest, others: Sequence[EditRequest], on_own_step: OnStep | None) -> Proposal:
            return propose(edited, fact, settings, others, on_own_step)

        return propose_together(edited, request, settings, one, beside, on_step)
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
        if proposal := try_out(edited, request, attempt, trained, before, seconds):
            return proposal
    raise _rounded_away(edited, request, f"not with {MARGIN_FACTORS[-1]} times the margin either")


def try_out(
    edited: EditedWeights,
    request: EditRequest,
    settings: Settings,
    trained: TrainedEdit,
    before: Sequence[GivenAnswer],
    seconds: float,
) -> Proposal | None:
    """A trained edit as a proposal, or None if the model does not say the target with the edit in its weights.

    Args:
        before: the model's answers without the edit, as `answers_to` gives them, keep-prompts too.
        seconds: how long training took.
    """
    with edited.trying(trained.delta):
        (after,) = answers_to(edited.model, edited.tokenizer, [request], keep=True)
    return Proposal.of(request, settings, trained, before, after, seconds) if holds(after) else None


def _rounded_away(edited: EditedWeights, request: EditRequest, more: str) -> EditError:
    return EditError(
        f"The answer {request.target!r} did not survive rounding to {dtype_name(edited.model.dtype)}, and {more}, so "
        "nothing was changed; load the model in float32."
    )
