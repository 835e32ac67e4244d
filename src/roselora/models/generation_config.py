"""Generation configs that transformers reads and will not write: they are written as they were read."""

import os
from pathlib import Path
from typing import Any

from transformers import GenerationConfig
from transformers.utils import GENERATION_CONFIG_NAME


def keep_as_read(config: GenerationConfig, file: Path) -> None:
    """Let a config that transformers refuses to save be saved as the bytes of the file that it came from.

    A published config may set a temperature without sampling. A Trainer changes its special tokens, and from then on
    transformers refuses to save it, and with it the model, at the first checkpoint or after training.
    """
    try:
        config.validate(strict=True)
    except ValueError:
        data = file.read_bytes()
    else:
        return

    def save_pretrained(
        self: GenerationConfig,
        save_directory: str | os.PathLike[str],
        config_file_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        Path(save_directory, config_file_name or GENERATION_CONFIG_NAME).write_bytes(data)

    own = type(config)
    # Not an attribute of the config itself, for these are its settings, which it hashes and writes as JSON.
    config.__class__ = type(own.__name__, (own,), {"save_pretrained": save_pretrained})
