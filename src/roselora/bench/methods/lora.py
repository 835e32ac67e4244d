"""LoRA: a dense low-rank update."""

from peft import LoraConfig

from roselora.bench.methods.adapter_tuning import AdapterConfig, tune_adapter
from roselora.bench.methods.edit_method import Applied, EditCall, Method


def lora(call: EditCall[AdapterConfig]) -> Applied:
    """Train W + (alpha / r) B A on all requests together, by peft, and keep the sum (Hu et al., arXiv 2106.09685)."""
    adapter = LoraConfig(
        r=call.config.rank,
        lora_alpha=call.config.alpha,
        lora_dropout=call.config.dropout,
        target_modules=call.config.targets(call.model),
    )
    return tune_adapter(call, adapter)


METHOD = Method("lora", lora, AdapterConfig(), "Hu et al., 2021, arXiv 2106.09685")
