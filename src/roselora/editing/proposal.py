"""A trained edit before it is committed: its delta, judged on the applied weights, and where it came from."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.adapter.factors import FactorPair, as_matrix
from roselora.adapter.verify import require_sparse
from roselora.delta.layers import layer_factors
from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.asking import SHOWN_TOKENS, ask, holds
from roselora.editing.batch import split_at_answer
from roselora.editing.optimize import TrainedFactors, rose_config, train_factors
from roselora.editing.request import EditRequest
from roselora.editing.settings import EditSettings
from roselora.errors import ConfigError, EditError

MARGIN_FACTORS = (1, 2, 4)
"""Margins to train to, in turn: in a low precision a small update can round away, a larger one stays."""

SHOWN_CHARACTERS = 40
"""How much of a prompt that is too long an error shows."""


_IN_FILE = ("method", "settings", "versions", "update")
"""What of the provenance goes into the delta's own file."""


@dataclass(frozen=True)
class Proposal:
    """A trained edit that holds on the applied weights, and is in neither model nor store.

    Attributes:
        request: what was asked.
        delta: the update.
        provenance: JSON: method, settings, versions, training (steps, seconds), update (entries_changed, entries,
            sparsity, sparsity_bound) and answers (kind, prompt, before, after).
    """

    request: EditRequest
    delta: SparseDelta
    provenance: dict[str, Any]


def propose(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    overlay: Overlay,
    request: EditRequest,
    settings: EditSettings,
    held: Sequence[str] = (),
    on_step: Callable[[int, float], None] | None = None,
) -> Proposal:
    """Train one request on the model as it is, and judge the update where it will be kept.

    ``held`` are the prompts of earlier edits, to which the model shall go on saying what it says.

    Raises:
        EditError: the target was not reached, or did not survive rounding; the model is as it was.
        ConfigError: the model cannot be adapted with these settings, or a prompt does not fit its context.
    """
    start = time.perf_counter()
    _require_feasible(model, tokenizer, request, settings)
    before = ask(model, tokenizer, request, request.keep)
    for factor in MARGIN_FACTORS:
        attempt = replace(settings, margin=settings.margin * factor)
        config = rose_config(attempt, model)
        trained = train_factors(model, tokenizer, request, attempt, config, held, on_step)
        if not trained.reached:
            raise EditError(
                f"The model did not learn to answer {request.target!r} to {request.prompt!r} within {trained.steps} "
                "steps, so nothing was changed; allow more steps, or raise the learning rate, the rank or the density."
            )
        delta = to_delta(model, overlay, trained.pairs)
        with _applied(overlay, delta):
            after = ask(model, tokenizer, request, request.keep)
        if holds(request, after):
            provenance = _provenance(request, attempt, trained, before, after, time.perf_counter() - start)
            facts = {"prompt": request.prompt, "target": request.target}
            described = SparseDelta(delta.weights, {**facts, **{k: provenance[k] for k in _IN_FILE}})
            return Proposal(request, described, provenance)
    raise EditError(
        f"The answer {request.target!r} did not survive rounding to {model.dtype}, so nothing was changed; load the "
        "model in float32, or raise the margin."
    )


def _require_feasible(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, request: EditRequest, settings: EditSettings
) -> None:
    """Refuse at once what could only fail after long work: a rank or a prompt larger than the model.

    Raises:
        ConfigError: the rank is above the model's width, or a prompt does not fit its context.
    """
    width = getattr(model.config, "hidden_size", None)
    if width is not None and settings.rank > width:
        raise ConfigError(f"rank must be at most {width}, the model's width, not {settings.rank}.")
    context = getattr(model.config, "max_position_embeddings", None)
    if context is None:
        return
    for prompt in (*request.prompts, *request.keep):
        tokens = sum(map(len, split_at_answer(tokenizer, prompt, request.target))) + SHOWN_TOKENS
        if tokens > context:
            shown = prompt if len(prompt) <= SHOWN_CHARACTERS else f"{prompt[:SHOWN_CHARACTERS]}…"
            raise ConfigError(
                f"The prompt {shown!r} takes {tokens} tokens with its answer; the model reads {context}; shorten it."
            )


def to_delta(model: nn.Module, overlay: Overlay, pairs: Sequence[FactorPair]) -> SparseDelta:
    """Trained factors as a delta of the base weights under the overlay."""
    return SparseDelta(
        tuple(
            layer_factors(
                pair.name,
                model.get_submodule(pair.name),
                as_matrix(pair.a),
                as_matrix(pair.b),
                pair.scale,
                overlay.base_sha256(f"{pair.name}.weight"),
            )
            for pair in pairs
        )
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
    settings: EditSettings,
    trained: TrainedFactors,
    before: list[str],
    after: list[str],
    seconds: float,
) -> dict[str, Any]:
    counts = require_sparse("edit", trained.pairs, settings.density)
    kinds = ["prompt", *["rephrasing"] * len(request.rephrasings), *["keep"] * len(request.keep)]
    rows = zip(kinds, (*request.prompts, *request.keep), before, after, strict=True)
    return {
        "method": "roselora",
        "settings": asdict(settings),
        "versions": {name: metadata.version(name) for name in ("roselora", "torch", "transformers", "peft")},
        "training": {"steps": trained.steps, "seconds": round(seconds, 2)},
        "update": {
            "entries_changed": counts.update_nonzeros,
            "entries": counts.entries,
            "sparsity": counts.sparsity,
            "sparsity_bound": counts.sparsity_bound,
        },
        "answers": [{"kind": k, "prompt": p, "before": b, "after": a} for k, p, b, a in rows],
    }
