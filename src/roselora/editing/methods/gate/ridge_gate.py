"""The gate of one neuron: its direction by ridge regression, its threshold from leave-one-out scores.

With z (d,) what the layer reads at one token, the direction w (d,) is the least-squares fit, with a ridge penalty, of

    w·z = 1 at the edited prompt,    w·z = 0 at negatives,    w·z = -1 in ordinary text.

These are the targets of a linear logical *and*: an input that shares only the subject or only the relation with the
edit is half way between one that shares both and one that shares neither. The neuron is active where w·z exceeds a
threshold that few negatives would have exceeded if they had not been fitted, and its activity grows linearly from
there.

Ordinary text enters by its moments alone. With C = E[z zᵀ] + λI = L Lᵀ and m = E[z], the fit to it by itself is C⁻¹m
times the target. The other inputs Z (n, d), with targets t (n,) and weights, correct this fit by Lᵀ⁻¹ X a, where X =
L⁻¹ Zᵀ (d, n) are the whitened inputs, for which the ridge penalty is the identity, and a solves the dual system

    G a = t - (what the fit to ordinary text gives),    G = Xᵀ X + diag(1 / weight)    (n, n).

n is some dozens where d is hundreds or thousands. The dual also gives the leave-one-out residual of input i without
another fit: a_i / (G⁻¹)_ii.

*Inputs of other edits* may be thousands, and most score low. Those that score highest become negatives, in rounds (hard
negative mining: Sung & Poggio, 1998, IEEE TPAMI 20(1)), and the threshold is at least the highest score of all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

ORDINARY_TARGET = -1.0
"""What a gate scores in ordinary text."""

BACKGROUND_WEIGHT = 0.3
"""The weight of the tokens before the edited position, which are less likely to be mistaken for it than negatives."""

REPHRASING_WEIGHT = 0.3
"""The weight of generated rephrasings, in the fit and in training; that of the edited prompts is 1."""

SHARPNESS = 40.0
"""How steeply a neuron's activity rises from its threshold: within a score of about 1 / SHARPNESS."""

HARDEST, ROUNDS = 32, 2
"""How many inputs of other edits become negatives in one round, and how many rounds there are."""


@dataclass(frozen=True)
class OrdinaryFit:
    """The moments of ordinary text in the form that gates are fitted with.

    Attributes:
        factor: (d, d), L, the lower Cholesky factor of E[z zᵀ] + λI.
        one: (d,), the ridge fit of 1 to ordinary text.
    """

    factor: Tensor
    one: Tensor

    @classmethod
    def from_moments(cls, second: Tensor, mean: Tensor, ridge: float) -> "OrdinaryFit":
        """From E[z zᵀ] (d, d) and E[z] (d,); λ is ``ridge`` times the mean of the former's diagonal."""
        penalty = ridge * float(second.diagonal().mean())
        factor = torch.linalg.cholesky(second + penalty * torch.eye(len(second)).to(second))
        return cls(factor, torch.cholesky_solve(mean[:, None], factor)[:, 0])


@dataclass(frozen=True)
class GateInputs:
    """What the MLP reads at the tokens that shape one gate, each (tokens, d) and possibly empty, except ``prompts``.

    Attributes:
        prompts: at the edited prompts.
        rephrasings: at generated rephrasings of them.
        background: at the tokens before the edited position.
        negatives: at negatives, by group; each group weighs as much as all of ordinary text.
        other_edits: where other edits are asked for and answered.
    """

    prompts: Tensor
    rephrasings: Tensor
    background: Tensor
    negatives: Sequence[Tensor]
    other_edits: Tensor


@dataclass(frozen=True)
class Gate:
    """Where a neuron is active.

    Attributes:
        direction: (d,), w; the mean score w·z of the edited prompts is 1.
        one: (d,), the direction that reads about 1 at every input of the gate; it stands for a bias.
        threshold: the score above which the neuron is active.
    """

    direction: Tensor
    one: Tensor
    threshold: float

    def score(self, inputs: Tensor) -> Tensor:
        """w·z of inputs (..., d): 1 in the mean of the edited prompts."""
        return inputs @ self.direction

    def row(self) -> tuple[Tensor, float]:
        """A neuron's row (d,) and a gain, so that gain · act(row·z) is the neuron's activity.

        For act(x) = max(x, 0), which SiLU and GELU nearly are at this sharpness, it is 0 up to the threshold and then
        rises linearly, to 1 at a score of 1. In a gated linear unit the gate's row is ``row``, and the other row is
        gain · ``one``.
        """
        return SHARPNESS * (self.direction - self.threshold * self.one), 1 / (SHARPNESS * (1 - self.threshold))


def fit_gate(ordinary: OrdinaryFit, inputs: GateInputs, *, quantile: float, lowest: float, highest: float) -> Gate:
    """The gate that is open at the prompts and most rephrasings, and hardly ever at negatives and other edits.

    Args:
        quantile: the share of each group of negatives whose leave-one-out scores are below the threshold.
        lowest, highest: limits of the threshold.
    """
    hardest = torch.empty(0, dtype=torch.long, device=inputs.other_edits.device)
    fit = _fit(ordinary, inputs, hardest)
    for _ in range(ROUNDS if len(inputs.other_edits) else 0):
        scores = inputs.other_edits @ fit.direction
        hardest = torch.unique(torch.cat([hardest, scores.topk(min(HARDEST, len(scores))).indices]))
        fit = _fit(ordinary, inputs, hardest)
    reached = [float(torch.quantile(scores, quantile)) for scores in fit.left_out]
    if len(inputs.other_edits):
        reached.append(float((inputs.other_edits @ fit.direction).max()))
    return Gate(fit.direction, fit.one, min(highest, max([lowest, *reached])))


class _Fit(NamedTuple):
    direction: Tensor
    one: Tensor
    left_out: list[Tensor]
    """Of each group of negatives the scores that its inputs would have if they had not been fitted."""


class _Group(NamedTuple):
    inputs: Tensor
    target: float
    weight: float
    negative: bool = False


def _fit(ordinary: OrdinaryFit, inputs: GateInputs, hardest: Tensor) -> _Fit:
    """Solve the dual system of the module's docstring for the gate's targets and, beside them, for 1 everywhere.

    Args:
        hardest: (m,) int64, which inputs of other edits are one more group of negatives.
    """
    groups = [
        _Group(inputs.prompts, 1.0, 1.0),
        _Group(inputs.rephrasings, 1.0, REPHRASING_WEIGHT),
        _Group(inputs.background, 0.0, BACKGROUND_WEIGHT),
        *(_Group(each, 0.0, 1.0, negative=True) for each in (*inputs.negatives, inputs.other_edits[hardest])),
    ]
    groups = [group for group in groups if len(group.inputs)]
    sizes = [len(group.inputs) for group in groups]
    z = torch.cat([group.inputs for group in groups])
    # A group's weight is shared by its inputs, and ordinary text as a whole weighs 1.
    noise = torch.cat([torch.full((size,), size / group.weight) for group, size in zip(groups, sizes, strict=True)])
    wanted = torch.cat([torch.full((size,), group.target) for group, size in zip(groups, sizes, strict=True)])
    targets = torch.stack([wanted, torch.ones(len(z))], 1).to(z)  # (n, 2): the gate's, and those of `one`
    prior = ordinary.one[:, None] * torch.tensor([ORDINARY_TARGET, 1.0]).to(z)  # (d, 2)
    whitened = torch.linalg.solve_triangular(ordinary.factor, z.T, upper=False)  # X, (d, n)
    inverse = torch.linalg.inv(whitened.T @ whitened + torch.diag(noise.to(z)))  # G⁻¹, (n, n)
    dual = inverse @ (targets - z @ prior)  # a, (n, 2)
    fitted = torch.linalg.solve_triangular(ordinary.factor.T, whitened @ dual, upper=True) + prior  # (d, 2)
    scale = (inputs.prompts @ fitted).mean(0)  # so that the prompts score 1, which the ridge falls short of
    direction, one = (fitted / scale).T
    left_out = (targets[:, 0] - dual[:, 0] / inverse.diagonal()) / scale[0]
    scores = zip(groups, torch.split(left_out, sizes), strict=True)
    return _Fit(direction, one, [own for group, own in scores if group.negative])
