"""A trained edit before it is committed, and where it came from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.edit_answers import GivenAnswer
from roselora.editing.methods.train_edit import Settings, TrainedEdit
from roselora.editing.request import EditRequest

IN_DELTA_FILE = ("method", "settings", "versions", "update")
"""The parts of the provenance that the delta's own file repeats."""


@dataclass(frozen=True)
class Proposal:
    """A trained edit whose target the model says with the edit applied; it is in neither model nor store yet.

    Attributes:
        request: what was asked.
        delta: the update.
        provenance: plain JSON, read back by `store.provenance`: method, settings, versions, training (steps, seconds),
            update (entries_changed, entries, sparsity, sparsity_bound), neurons (of each block: block, indices),
            answers (kind, prompt, form, target, before, after), and left_out (prompt, target,
            reason) of consequences that could not be made.
    """

    request: EditRequest
    delta: SparseDelta
    provenance: dict[str, Any]

    @classmethod
    def of(
        cls,
        request: EditRequest,
        settings: Settings,
        trained: TrainedEdit,
        before: Sequence[GivenAnswer],
        after: Sequence[GivenAnswer],
        seconds: float,
    ) -> "Proposal":
        """A proposal with its provenance.

        Args:
            settings: those that it was trained with.
            trained: the update.
            before, after: the model's answers without and with it, as `answers_to` gives them, keep-prompts too.
            seconds: how long training took.
        """
        answers = [
            {
                "kind": old.kind,
                "prompt": old.prompt,
                "form": old.form,
                "target": old.target,
                "before": old.text,
                "after": new.text,
            }
            for old, new in zip(before, after, strict=True)
        ]
        provenance = {
            **trained.about,
            "settings": asdict(settings),
            "versions": {name: metadata.version(name) for name in ("roselora", "torch", "transformers", "peft")},
            "training": {"steps": trained.steps, "seconds": round(seconds, 2)},
            "answers": answers,
        }
        fact = {"prompt": request.prompt, "target": request.target}
        described = SparseDelta(trained.delta.weights, {**fact, **{name: provenance[name] for name in IN_DELTA_FILE}})
        return cls(request, described, provenance)
