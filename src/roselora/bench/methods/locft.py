"""LocFT-BF: fine-tuning one late matrix, breadth first over all edits."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.applied_edit import Applied
from roselora.bench.methods.one_matrix import MatrixConfig, tune_matrix
from roselora.editing.request import EditRequest
from roselora.models.inference import Progress


@dataclass(frozen=True)
class LocFtConfig(MatrixConfig):
    """How LocFT-BF edits. Layer 22 of 32, batches of 100, 25 epochs and learning rate 5e-4 are the paper's.

    The paper trains all its epochs; so does this, unless ``stop_loss`` is raised.
    """

    depth: float = 22 / 31
    batch_size: int = 100
    stop_loss: float = 0.0


def locft_bf(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    config: LocFtConfig,
    history: Sequence[Applied] = (),
    on_progress: Progress | None = None,
) -> Applied:
    """Train one MLP's output matrix in epochs over all requests, in shuffled batches, each target ending with EOS.

    Breadth first: every epoch sees every request, where a depth-first stream trains each to its end and loses the
    ones before. (arXiv 2509.22072.)
    """
    return tune_matrix(model, tokenizer, requests, config, on_progress=on_progress)
