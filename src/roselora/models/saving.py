"""Save a model and its tokenizer as safetensors, wholly or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.errors import ModelError
from roselora.models.loading import quiet_libraries


def require_free(path: Path) -> None:
    """Refuse a place where something is already.

    Raises:
        ModelError: there is a file, or a folder that is not empty.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ModelError(f"{path} exists already; name a place that is new or empty.")


def save(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the model, or an adapter alone, where nothing or an empty folder is; an interruption leaves nothing there.

    Raises:
        ModelError: the folder is not empty, or the disk refused.
    """
    # PEFT would ask the hub whether the embeddings have changed; ours are frozen.
    options: dict[str, Any] = {"save_embedding_layers": False} if isinstance(model, PeftModel) else {}

    def write(staged: Path) -> None:
        model.save_pretrained(str(staged), **options)
        tokenizer.save_pretrained(staged)

    save_wholly(folder, write)


def save_wholly(folder: Path, write: Callable[[Path], None]) -> None:
    """Let something write its files into a folder that appears when it has; raises as :func:`save` does."""
    require_free(folder)
    staged = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        with quiet_libraries():
            write(staged)
        staged.chmod(0o755)
        os.replace(staged, folder)
    except OSError as error:
        raise ModelError(f"The model could not be saved to {folder} ({error.strerror or error}).") from error
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
