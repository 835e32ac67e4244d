"""The gate of one neuron: its direction by ridge regression, and how its activity rises with the score.

With z (d,) what the layer reads at one token, the direction w (d,) is the least-squares fit, with a ridge penalty, of

    w·z = 1 at the edited prompts,    w·z = 0 at negatives,    w·z = -2 in ordinary text.

These are about the targets of a linear logical *and*: an input that shares only the subject or only the relation with
the edit lies between one that shares both and one that shares neither. The neuron is active where w·z exceeds a
threshold, and its activity rises so steeply from there that prompts in other words, which score lower than the edited
ones, get all of the answer.

Ordinary text enters by its moments alone. With C = E[z zᵀ] + λI = L Lᵀ and m = E[z], the fit to it by itself is C⁻¹m
times the target. The other inputs Z (n, d), with targets t (n,) and weights, correct this fit by Lᵀ⁻¹ X a, where X =
L⁻¹ Zᵀ (d, n) are the whitened inputs, for which the ridge penalty is the identity, and a solves the dual system

    G a = t - (what the fit to ordinary text gives),    G = Xᵀ X + diag(1 / weight)    (n, n).

n is some hundreds where d is hundreds or thousands.

*Inputs of which there are many*, the tokens of the model's own answers to negatives and those of other edits, mostly
score low. Those that score highest become negatives, in rounds (hard negative mining: Sung & Poggio, 1998, IEEE TPAMI
20(1)).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

ORDINARY_TARGET = -2.0
"""What a gate scores in ordinary text."""

SHARPNESS = 40.0
"""How steeply a neuron's activity rises from its threshold: within a score of about 1 / SHARPNESS."""

HARDEST, ROUNDS = 32, 2
"""How many of many inputs become negatives in one round, and how many rounds there are."""

HIGHEST = 0.8
"""Up to where the inputs of other edits raise the threshold; the edited prompts score 1."""


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
        background: where other tokens of the edit's own answer are predicted.
        negatives: at negatives, by group.
        answers: at the tokens of the model's own answers to negatives.
        other_edits: where other edits are asked for and answered.
    """

    prompts: Tensor
    rephrasings: Tensor
    background: Tensor
    negatives: Sequence[Tensor]
    answers: Tensor
    other_edits: Tensor


@dataclass(frozen=True)
class Gate:
    """Where a neuron is active.

    Attributes:
        direction: (d,), w; the mean score w·z of the edited prompts is 1.
        one: (d,), the direction that reads about 1 at every input of the gate; it stands for a bias.
        threshold: the score above which the neuron is active.
        full: the score at which its activity is 1.
        top: the highest score of the edited prompts and of generated rephrasings.
    """

    direction: Tensor
    one: Tensor
    threshold: float
    full: float
    top: float

    def score(self, inputs: Tensor) -> Tensor:
        """w·z of inputs (..., d): 1 in the mean of the edited prompts."""
        return inputs @ self.direction

    def row(self) -> tuple[Tensor, float]:
        """A neuron's row (d,) and a gain, so that gain · act(row·z) is the neuron's activity.

        For act(x) = max(x, 0), which SiLU and GELU nearly are at this sharpness, it is 0 up to the threshold and then
        rises linearly.
        """
        return SHARPNESS * (self.direction - self.threshold * self.one), 1 / (SHARPNESS * (self.full - self.threshold))

    def gated_rows(self) -> tuple[Tensor, Tensor, float]:
        """Both rows (d,) of a gated linear unit, and a gain, so that gain · act(gate·z) · (up·z) is its activity.

        The gate's is ``row``. The other falls from 2 at the threshold to 1 at the top, so that the activity is the
        parabola (s - θ)(2·top - θ - s) of the score s where `one` reads 1. It levels off at what the edited prompts
        score, so that they activate the neuron little more than prompts in other words do.
        """
        row, gain = self.row()
        rest = self.top - self.threshold
        up = ((self.top + rest) * self.one - self.direction) / rest
        return row, up, gain * rest / (self.top + rest - self.full)


def fit_gate(ordinary: OrdinaryFit, inputs: GateInputs, *, threshold: float, full: float) -> Gate:
    """The gate that is open at the prompts and at most rephrasings, and hardly ever at negatives and other edits.

    Args:
        threshold, full: the scores above which the neuron is active, and at which its activity is 1. Where another edit
            scores higher than the threshold, both are raised, up to `HIGHEST`; where one of the prompts scores lower
            than ``full``, both are lowered, down to what negatives are fitted to.
    """
    many = torch.cat([inputs.answers, inputs.other_edits])
    hardest = torch.empty(0, dtype=torch.long, device=many.device)
    fit = _fit(ordinary, inputs, many[hardest])
    for _ in range(ROUNDS if len(many) else 0):
        scores = many @ fit.direction
        hardest = torch.unique(torch.cat([hardest, scores.topk(min(HARDEST, len(scores))).indices]))
        fit = _fit(ordinary, inputs, many[hardest])
    raised = 0.0
    if len(inputs.other_edits):
        # The neuron is active where w·z exceeds the threshold times `one`·z, which is about 1, but not everywhere.
        bias = (inputs.other_edits @ fit.one).clamp(min=torch.finfo(many.dtype).eps)
        highest = float((inputs.other_edits @ fit.direction / bias).max())
        raised = max(0.0, min(HIGHEST, highest) - threshold)
    lowest = float((inputs.prompts @ fit.direction).min())
    top = float((torch.cat([inputs.prompts, inputs.rephrasings]) @ fit.direction).max())
    rise = full - threshold
    full = max(rise, min(full + raised, lowest))
    return Gate(fit.direction, fit.one, full - rise, full, max(full, top))


class _Fit(NamedTuple):
    direction: Tensor
    one: Tensor


def _fit(ordinary: OrdinaryFit, inputs: GateInputs, hardest: Tensor) -> _Fit:
    """Solve the dual system of the module's docstring for the gate's targets and, beside them, for 1 everywhere.

    Args:
        hardest: (m, d), the inputs that are one more group of negatives.
    """
    groups = [
        (inputs.prompts, 1.0),
        (inputs.rephrasings, 1.0),
        *((each, 0.0) for each in (inputs.background, *inputs.negatives, hardest)),
    ]
    groups = [group for group in groups if len(group[0])]
    z = torch.cat([each for each, _ in groups])
    # Each group weighs as much as all of ordinary text, and its inputs share the weight.
    noise = torch.cat([torch.full((len(each),), float(len(each))) for each, _ in groups])
    wanted = torch.cat([torch.full((len(each),), target) for each, target in groups])
    targets = torch.stack([wanted, torch.ones(len(z))], 1).to(z)  # (n, 2): the gate's, and those of `one`
    prior = ordinary.one[:, None] * torch.tensor([ORDINARY_TARGET, 1.0]).to(z)  # (d, 2)
    whitened = torch.linalg.solve_triangular(ordinary.factor, z.T, upper=False)  # X, (d, n)
    dual = torch.linalg.solve(whitened.T @ whitened + torch.diag(noise.to(z)), targets - z @ prior)  # a, (n, 2)
    fitted = torch.linalg.solve_triangular(ordinary.factor.T, whitened @ dual, upper=True) + prior  # (d, 2)
    scale = (inputs.prompts @ fitted).mean(0)  # so that the prompts score 1, which the ridge falls short of
    direction, one = (fitted / scale).T
    return _Fit(direction, one)
