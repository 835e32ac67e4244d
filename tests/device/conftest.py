"""The fixtures of other folders whose code runs on the pretend accelerator too."""

from tests.adapter.conftest import adapted_model, base_model, token_ids
from tests.bench.conftest import data, put
from tests.training.conftest import settings, write

__all__ = ["adapted_model", "base_model", "data", "put", "settings", "token_ids", "write"]
