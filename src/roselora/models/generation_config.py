"""Generation configs that transformers reads but refuses to save: they are saved as they were read."""

import os
from pathlib import Path
from typing import Any

from transformers import GenerationConfig
from transformers.utils import GENERATION_CONFIG_NAME


def keep_as_read(config: GenerationConfig, file: Path | None) -> None:
    """Let a config that transformers refuses to save be saved with the bytes of the file it came from, if any.

    A published config may set a temperature without sampling. When a Trainer changes its special tokens, transformers
    refuses to save it, and the model with it, at the first checkpoint or after training. If the config is corrected
    later, it is saved in the usual way.
    """
    if _can_be_saved(config):
        return
    data = config.to_json_string().encode() if file is None else file.read_bytes()
    own = type(config)

    class AsRead(own):  # type: ignore[valid-type, misc]
        def save_pretrained(
            self,
            save_directory: str | os.PathLike[str],
            config_file_name: str | os.PathLike[str] | None = None,
            **options: Any,
        ) -> None:
            if _can_be_saved(self):
                super().save_pretrained(save_directory, config_file_name, **options)
            else:
                Path(save_directory, config_file_name or GENERATION_CONFIG_NAME).write_bytes(data)

    config.__class__ = AsRead  # not an attribute: a config hashes and saves its attributes as settings


def _can_be_saved(config: GenerationConfig) -> bool:
    try:
        config.validate(strict=True)
    except ValueError:
        return False
    return True
