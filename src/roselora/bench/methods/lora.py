"""LoRA: a dense low-rank update."""

from collections.abc import Sequence
from dataclasses import dataclass

from peft import LoraConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.applied_edit import Applied
from roselora.bench.methods.low_rank import LowRankConfig, target_modules, tune_adapter
from roselora.editing.request import EditRequest
from roselora.models.inference import Progress


@dataclass(frozen=True)
class LoraEditConfig(LowRankConfig):
    """How LoRA edits; see `LowRankConfig`."""


def lora(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    config: LoraEditConfig,
    history: Sequence[Applied] = (),
    on_progress: Progress | None = None,
) -> Applied:
    """Train W + (alpha / r) B A on all requests together, by peft, and keep the sum (Hu et al., arXiv 2106.09685)."""
    adapter = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=target_modules(model, config),
    )
    return tune_adapter(model, tokenizer, requests, config, adapter, on_progress=on_progress)
