"""The command that starts a server with an export."""

import json
import shlex
from pathlib import Path

from roselora.models.pretrained import ADAPTER
from roselora.serving.engines import Export

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM's ``--max-lora-rank`` takes; 16 is its default."""


def start_line(export: Export) -> str:
    """A shell command for the commonest program that loads such an export.

    >>> start_line(Export("edits.gguf", "gguf-lora", "base.gguf"))
    'llama-server -m base.gguf --lora edits.gguf'
    """
    path, base = shlex.quote(export.path), shlex.quote(export.base)
    match export.kind:
        case "model":
            return f"vllm serve {path}"
        case "lora":
            rank = _vllm_rank(Path(export.path))
            return f"vllm serve {base} --enable-lora --lora-modules edits={path} --max-lora-rank {rank}"
        case "gguf":
            return f"llama-server -m {path}"
        case "gguf-lora":
            return f"llama-server -m {base} --lora {path}"
        case "mlx":
            return f"mlx_lm.server --model {base} --adapter-path {path}"


def rank_warning(folder: Path) -> str | None:
    """What to say of a LoRA folder whose rank is above what vLLM serves."""
    rank = _rank(folder)
    if rank <= VLLM_RANKS[-1]:
        return None
    return (
        f"its rank is {rank}, and vLLM serves adapters up to {VLLM_RANKS[-1]}: for vLLM export the merged model "
        "instead, or undo edits"
    )


def _vllm_rank(folder: Path) -> int:
    """The smallest rank that vLLM can be told, and that is enough, or the largest that there is."""
    own = _rank(folder)
    return next((rank for rank in VLLM_RANKS if rank >= own), VLLM_RANKS[-1])


def _rank(folder: Path) -> int:
    return int(json.loads((folder / ADAPTER).read_bytes())["r"])
