"""The records of a store."""

import pytest

from roselora.editing.store.edit_records import BaseIdentity
from roselora.errors import ConfigError


def test_a_base_without_a_proper_hash_is_refused() -> None:
    with pytest.raises(ConfigError, match="64 lower-case"):
        BaseIdentity("x", "y", "AB" * 32)
