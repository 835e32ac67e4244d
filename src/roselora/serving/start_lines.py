"""The command that starts a server with an export."""

import json
import shlex
from pathlib import Path
from typing import Literal

from roselora.models.pretrained import ADAPTER, is_gguf
from roselora.serving.engines import Export, Kind
from roselora.serving.engines.vllm_engine import RANKS, smallest_rank


def start_line(export: Export) -> str:
    """A shell command for the commonest program that loads such an export.

    >>> start_line(Export("gguf-lora", "edits.gguf", "base.gguf"))
    'llama-server -m base.gguf --lora edits.gguf'
    """
    path, base = shlex.quote(export.path), shlex.quote(export.base)
    match export.kind:
        case "model":
            return f"vllm serve {path}{_dtype(Path(export.path))}"
        case "lora":
            rank = smallest_rank(_rank(Path(export.path)))
            adapter = f"--enable-lora --lora-modules edits={path} --max-lora-rank {rank}"
            return f"vllm serve {base} {adapter}{_dtype(Path(export.base))}"
        case "gguf":
            return f"llama-server -m {path}"
        case "gguf-lora":
            return f"llama-server -m {base} --lora {path}"
        case "mlx":
            return f"mlx_lm.server --model {base} --adapter-path {path}"


def served_base(kind: Kind | Literal["patch"], base: str) -> str:
    """What stands for the base in such a command: itself, or a name to be replaced where a program needs another form.

    >>> served_base("gguf-lora", "/models/base"), served_base("lora", "/models/base")
    ('BASE.gguf', '/models/base')
    """
    if not base or is_gguf(Path(base)) != (kind == "gguf-lora"):
        return "BASE.gguf" if kind == "gguf-lora" else "BASE"
    return base


def rank_warning(folder: Path) -> str | None:
    """What to say of a LoRA folder whose rank is above what vLLM serves."""
    rank = _rank(folder)
    if rank <= RANKS[-1]:
        return None
    return (
        f"its rank is {rank}, and vLLM serves adapters up to {RANKS[-1]}: for vLLM export the merged model "
        "instead, or undo edits"
    )


def _dtype(folder: Path) -> str:
    """What makes vLLM serve a model in float32 if it is saved so; by itself it would round it to a half precision."""
    path = folder / "config.json"
    config = json.loads(path.read_bytes()) if path.is_file() else {}
    return " --dtype float32" if "float32" in (config.get("dtype"), config.get("torch_dtype")) else ""


def _rank(folder: Path) -> int:
    return int(json.loads((folder / ADAPTER).read_bytes())["r"])
