"""Asks PEFT, which loads a LoRA adapter beside its base."""

from collections.abc import Sequence

from peft import PeftModel
from transformers import AutoModelForCausalLM

from roselora.serving.engines import Export
from roselora.serving.engines.transformers_engine import generated


def answers(export: Export, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int] | str]:
    """See `engines`."""
    base = AutoModelForCausalLM.from_pretrained(export.base, dtype="auto")
    return generated(PeftModel.from_pretrained(base, export.path), prompts, tokens)
