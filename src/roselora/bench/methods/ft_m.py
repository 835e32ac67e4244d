"""FT-M: fine-tuning one matrix on the target's tokens alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.applied_edit import Applied
from roselora.bench.methods.one_matrix import MatrixConfig, tune_matrix
from roselora.editing.request import EditRequest
from roselora.models.inference import Progress


@dataclass(frozen=True)
class FtMConfig(MatrixConfig):
    """How FT-M edits. Layer 21 of 32, 25 steps and learning rate 5e-4 are EasyEdit's for LLaMA-2-7B."""


def ft_m(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    config: FtMConfig,
    history: Sequence[Applied] = (),
    on_progress: Progress | None = None,
) -> Applied:
    """Minimize the cross-entropy of the target's tokens, the prompt masked, over FT-L's matrix without its bound.

    (Zhang et al., 2024, "A Comprehensive Study of Knowledge Editing for Large Language Models", arXiv 2401.01286.)
    """
    return tune_matrix(model, tokenizer, requests, config, on_progress=on_progress)
