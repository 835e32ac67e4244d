"""LoRA: a dense low-rank update."""

from collections.abc import Sequence

from peft import LoraConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.adapter_tuning import AdapterConfig, tune_adapter
from roselora.bench.methods.edit_method import Applied, Method
from roselora.editing.request import EditRequest
from roselora.models.inference import Progress


def lora(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    config: AdapterConfig,
    history: Sequence[Applied] = (),
    on_progress: Progress | None = None,
) -> Applied:
    """Train W + (alpha / r) B A on all requests together, by peft, and keep the sum (Hu et al., arXiv 2106.09685)."""
    adapter = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.targets(model),
    )
    return tune_adapter(model, tokenizer, requests, config, adapter, on_progress)


METHOD = Method("lora", lora, AdapterConfig(), "Hu et al., 2021, arXiv 2106.09685")
