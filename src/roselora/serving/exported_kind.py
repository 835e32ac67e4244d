"""What an export is, by what is in it."""

import json
from pathlib import Path

from gguf import GGUFReader

from roselora.errors import FileFormatError, reason_of
from roselora.models.pretrained import ADAPTER, is_gguf
from roselora.serving.engines import Kind
from roselora.serving.lora_folder import LORA_WEIGHTS
from roselora.serving.mlx_adapter import MLX_WEIGHTS


def kind_of(path: Path) -> Kind:
    """What is at a path.

    Raises:
        FileFormatError: nothing that a program serves.
    """
    if not path.exists():
        raise FileFormatError(f"{path} does not exist; name an export.")
    if is_gguf(path):
        try:
            about = GGUFReader(path).fields.get("general.type")
            return "gguf-lora" if about is not None and about.contents() == "adapter" else "gguf"
        except Exception as error:  # of any type: the reader trusts what is in the file
            raise FileFormatError(f"{path} is a damaged GGUF file ({reason_of(error)}); export again.") from error
    if (path / ADAPTER).is_file():
        try:
            config = json.loads((path / ADAPTER).read_bytes())
            if not isinstance(config, dict):
                raise ValueError("it is no object")
        except (ValueError, RecursionError) as error:
            raise FileFormatError(
                f"{path / ADAPTER} is not the config of an adapter ({reason_of(error)}); export again."
            ) from error
        kind: Kind = "mlx" if "lora_parameters" in config else "lora"
        weights = MLX_WEIGHTS if kind == "mlx" else LORA_WEIGHTS
        if not (path / weights).is_file():
            raise FileFormatError(f"{path} has no {weights}, which an adapter's folder must have; export again.")
        return kind
    if (path / "config.json").is_file():
        return "model"
    raise FileFormatError(
        f"{path} is no export that a program loads: it is no GGUF file, and no folder with a config.json (a merged "
        f"model) or an {ADAPTER} (an adapter)."
    )
