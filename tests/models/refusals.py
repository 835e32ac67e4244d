"""What tests of loading share: spoiling a config, and the sentence of a refusal."""

import json

import pytest

from roselora.errors import ModelError
from roselora.models import load


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(source, **options):
    """The one sentence that `load` refuses with."""
    with pytest.raises(ModelError) as caught:
        load(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message
