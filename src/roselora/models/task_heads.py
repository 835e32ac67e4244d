"""The task heads that a model is loaded with: language modelling, classification or regression."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PretrainedConfig

from roselora.errors import ModelError

CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel")


@dataclass(frozen=True)
class TaskHead:
    """How transformers loads a model with this head.

    Attributes:
        auto_class: the ``Auto…`` class of transformers.
        options: more arguments of its ``from_pretrained``.
        new: whether the checkpoint may lack the head's weights, because they are trained from scratch.
    """

    auto_class: Any
    options: dict[str, Any] = field(default_factory=dict)
    new: bool = False

    def check(self, name: str, config: PretrainedConfig) -> None:
        """Refuse a model of a kind that cannot have this head.

        Raises:
            ModelError: it is not a causal language model, or has no sequence classifier in transformers.
        """
        known = self.auto_class._model_mapping
        architectures = config.architectures or []
        if type(config) in known:
            causal = known[type(config)].__name__
            # transformers also loads encoders as causal models, which they were never trained to be.
            if self.new or not architectures or any(a == causal or a.endswith(CAUSAL_ENDINGS) for a in architectures):
                return
        kind = ", ".join(architectures) or config.model_type
        if self.new:
            raise ModelError(f"{name} is a {kind}, for which there is no sequence classifier: name another model.")
        raise ModelError(
            f"{name} is not a causal language model but {kind}: name one that generates text, or "
            "where it is loaded to be trained as a classifier, give its labels."
        )

    def missing(self, report: Mapping[str, Any], model: Any) -> list[str]:
        """The weights that the checkpoint should have but lacks, in order."""
        keys = sorted(report["missing_keys"])
        if not self.new:
            return keys
        body = f"{model.base_model_prefix}."
        # A pooler is part of the body, but checkpoints of language models leave it out.
        return [key for key in keys if key.startswith(body) and ".pooler." not in key]


CAUSAL_LM = TaskHead(AutoModelForCausalLM)


def head_for(labels: Sequence[str] | None) -> TaskHead:
    """A classifier of these labels, a regression (no labels), or the language modelling head (None)."""
    return CAUSAL_LM if labels is None else classifier(labels)


def classifier(labels: Sequence[str]) -> TaskHead:
    """A sequence classifier of these labels, or a regression of one number if there are none; its head may be new."""
    options: dict[str, Any] = {"ignore_mismatched_sizes": True}  # a head of other labels is replaced
    if not labels:
        return TaskHead(
            AutoModelForSequenceClassification, options | {"num_labels": 1, "problem_type": "regression"}, new=True
        )
    names = {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }
    return TaskHead(AutoModelForSequenceClassification, options | names, new=True)
