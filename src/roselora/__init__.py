"""RoseLoRA: precise, reversible updates of language models."""
