"""FT-L: fine-tuning one matrix within a norm bound."""

from dataclasses import dataclass

import torch
from torch import Tensor

from roselora.bench.methods.edit_method import Applied, EditCall, Method
from roselora.bench.methods.edited_layer import edited_layer
from roselora.bench.methods.matrix_tuning import MatrixConfig, tune_matrix
from roselora.editing.methods.setting_bounds import number
from roselora.float64 import double


@dataclass(frozen=True)
class FtLConfig(MatrixConfig):
    """Settings of FT-L.

    The bound, the learning rate and the 25 steps are ROME's for its FT+L on GPT-2 XL, where it edits layer 0; the
    depth is that of EasyEdit's fine-tuning of LLaMA-2 (layer 21 of 32).

    Attributes:
        norm_bound: how far an entry may move from its first value.
    """

    norm_bound: float = number(5e-4, above=0)


def ft_l(call: EditCall[FtLConfig]) -> Applied:
    """Minimize the answers' loss over theta, subject to max |theta - theta0| <= norm_bound.

    After each step every entry is projected into [theta0 - norm_bound, theta0 + norm_bound], exactly, in the weight's
    own dtype. (Zhu et al., 2020, arXiv 2012.00363, with the L-infinity norm; as ROME's FT+L, arXiv 2202.05262.)
    The loss covers the whole target; EasyEdit's covers the prompt's last token alone.
    """

    weight = edited_layer(call.model, call.config)[1].get_parameter("weight")
    low, high = norm_ball(weight.detach(), call.config.norm_bound)

    @torch.no_grad()
    def project(_: int) -> None:
        weight.clamp_(low, high)

    return tune_matrix(call, project)


def norm_ball(center: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """The least and the greatest number of the tensor's dtype within ``bound`` of each entry, for fp32, bf16, fp16.

    >>> low, high = norm_ball(torch.tensor([1.0]), 0.25)
    >>> low.item(), high.item()
    (0.75, 1.25)
    """
    exact = double(center)
    device, center = center.device, center.to(exact.device)
    high = (exact + bound).to(center.dtype)
    low = (exact - bound).to(center.dtype)
    # Rounding may have gone beyond the bound; the next number towards the center is within it.
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


METHOD = Method("ft-l", ft_l, FtLConfig(), "Zhu et al., 2020, arXiv 2012.00363")
