"""Models: loading, devices, generation, activation hooks, caches and the demo model."""

from roselora.models.loading import LoadedModel, load

__all__ = ["LoadedModel", "load"]
