"""FT-L: fine-tuning one matrix within a norm bound."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.applied_edit import Applied
from roselora.bench.methods.one_matrix import MatrixConfig, tune_matrix
from roselora.editing.request import EditRequest
from roselora.errors import ConfigError
from roselora.float64 import double
from roselora.models.inference import Progress


@dataclass(frozen=True)
class FtLConfig(MatrixConfig):
    """How FT-L edits.

    The bound, the learning rate and the 25 steps are ROME's for its FT+L on GPT-2 XL, where it edits layer 0; the
    depth is that of EasyEdit's fine-tuning of LLaMA-2 (layer 21 of 32).

    Attributes:
        norm_bound: how far an entry may go from what it was.
    """

    norm_bound: float = 5e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.norm_bound > 0:
            raise ConfigError(f"norm_bound must be above 0, not {self.norm_bound}.")


def ft_l(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    config: FtLConfig,
    history: Sequence[Applied] = (),
    on_progress: Progress | None = None,
) -> Applied:
    """Minimize the answers' loss over theta, subject to max |theta - theta0| <= norm_bound.

    After each step every entry is projected into [theta0 - norm_bound, theta0 + norm_bound], exactly, in the weight's
    own dtype. (Zhu et al., 2020, arXiv 2012.00363, with the L-infinity norm; as ROME's FT+L, arXiv 2202.05262.)
    The loss looks at the whole target; EasyEdit's at the prompt's last token alone.
    """

    def constrain(weight: nn.Parameter) -> Callable[[int], None]:
        low, high = norm_ball(weight.detach(), config.norm_bound)

        @torch.no_grad()
        def project(_: int) -> None:
            weight.clamp_(low, high)

        return project

    return tune_matrix(model, tokenizer, requests, config, constrain, on_progress)


def norm_ball(center: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """The least and the greatest number of the tensor's dtype within ``bound`` of each entry, for fp32, bf16, fp16."""
    exact = double(center)
    device, center = center.device, center.to(exact.device)
    high = (exact + bound).to(center.dtype)
    low = (exact - bound).to(center.dtype)
    # Rounding may have gone beyond the bound; the next number inwards is within it.
    high = torch.where(high.double() - exact > bound, _inwards(high, center), high)
    low = torch.where(exact - low.double() > bound, _inwards(low, center), low)
    return low.to(device), high.to(device)


def _inwards(edge: Tensor, center: Tensor) -> Tensor:
    """The number next to ``edge`` on the side of ``center``."""
    if edge.dtype != torch.float16:
        return torch.nextafter(edge, center)
    # torch has no nextafter for fp16; the numbers of one sign have consecutive bits, away from zero upwards.
    bits = edge.view(torch.int16)
    smaller = (center.abs() < edge.abs()) | (center.signbit() != edge.signbit())
    return torch.where(smaller, bits - 1, bits + 1).view(torch.float16)
