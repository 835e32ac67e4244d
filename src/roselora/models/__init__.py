"""Models: loading one with its tokenizer, its fingerprint, its greedy answers, and the demo model."""

from roselora.models.loading import LoadedModel, load

__all__ = ["LoadedModel", "load"]
