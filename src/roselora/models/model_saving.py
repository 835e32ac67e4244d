"""Save a model and its tokenizer as safetensors, completely or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.errors import ModelError
from roselora.files import user_path
from roselora.models.library_calls import as_model_error, quiet_libraries
from roselora.models.older_names import add_older_names
from roselora.staging import put_in_place, staging_folder


def require_new_path(path: Path) -> Path:
    """Refuse a path where something exists; returns the real path, with ``~`` and links followed.

    Raises:
        ModelError: it is a file, a folder that is not empty, the working folder or a mount point, or unreadable.
    """
    target = Path(os.path.realpath(user_path(path)))
    with as_model_error(f"{path} cannot be written to", "name another place"):
        taken = any(target.iterdir()) if target.is_dir() else target.exists() or target.is_symlink()
        if taken:  # a link that realpath left is a circle of links
            raise ModelError(f"{path} exists already; name a new path, or an empty folder.")
        if target.exists() and target.samefile("."):
            raise ModelError(f"{path} is the folder that you are in, which cannot be replaced; name a new one.")
        if target.is_mount():
            raise ModelError(f"{path} is where a disk is mounted, which cannot be replaced; name a folder in it.")
    return target


def write_model(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the model, or an adapter without its base, and the tokenizer into a new folder, as the libraries do.

    A whole model gets the names that older programs read too.
    """
    # By default PEFT asks the hub whether the embeddings have changed; ours are frozen.
    options: dict[str, Any] = {"save_embedding_layers": False} if isinstance(model, PeftModel) else {}
    model.save_pretrained(str(folder), **options)
    tokenizer.save_pretrained(folder)
    if not isinstance(model, PeftModel):
        add_older_names(folder)


def save_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Write a new file or folder, which then appears at ``path`` in one step, flushed to the disk.

    Args:
        path: as for :func:`require_new_path`.
        write: called with the path to write to, in a folder that exists; if it raises, nothing is left behind.

    Raises:
        ModelError: something exists at ``path``, or the disk failed.
    """
    target = require_new_path(path)
    with (
        as_model_error(f"{path} could not be written", "check that there is room and that you may write there"),
        quiet_libraries(),
        staging_folder(target) as staging,
    ):
        made = staging / "made"
        write(made)
        require_new_path(path)  # again, because writing may have taken long
        put_in_place(made, target)
