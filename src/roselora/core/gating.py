"""A neuron that wakes on a few inputs alone: its direction by ridge regression, its threshold by leave-one-out.

Let z (d,) be what a layer reads at one token. An edit's *own* inputs are those at which the model is to say something
new; *contrasts* are inputs close to them at which it is not: the same subject asked something else, another subject
asked the same. The direction w of a gate is the least-squares fit, with a ridge penalty, of

    w·z = 1 on own inputs,    w·z = 0 on contrasts,    w·z = -1 on ordinary text.

These are the targets of a logical *and* that is linear: what shares the subject alone or the relation alone with the
edit is half way between what shares both and what shares neither. A neuron with this gate is active where w·z exceeds
a threshold, which few contrasts would have exceeded had they not been fitted.

Our own construction. That MLP neurons act as keys and values: Geva et al., 2021, arXiv 2012.14913; that a key is best
read against the second moments of ordinary keys: Meng et al., 2022, arXiv 2202.05262, Eq. 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ORDINARY_TARGET = -1.0

BACKGROUND_WEIGHT = 0.3

SHARPNESS = 40.0
"""How steeply a gate opens: over a score of about 1 / SHARPNESS."""

RAMP = 0.25
"""The share of the way from the threshold to 1 over which a gate opens."""


@dataclass(frozen=True)
class Ordinary:
    """What a layer reads in ordinary text, as far as gates need it.

    Attributes:
        factor: (d, d), the lower Cholesky factor of E[z zᵀ] + ridge · I.
        one: (d,), the ridge fit of 1 to ordinary text.
    """

    factor: Tensor
    one: Tensor

    @classmethod
    def from_moments(cls, second: Tensor, mean: Tensor, ridge: float) -> "Ordinary":
        """From E[z zᵀ] (d, d) and E[z] (d,); the ridge is in units of the mean of the former's diagonal."""
        penalty = ridge * float(second.diagonal().mean())
        factor = torch.linalg.cholesky(second + penalty * torch.eye(len(second)).to(second))
        return cls(factor, torch.cholesky_solve(mean[:, None], factor)[:, 0])


@dataclass(frozen=True)
class Gate:
    """Where a neuron wakes.

    Attributes:
        direction: (d,), w; its mean score w·z on the edit's own inputs is 1.
        one: (d,), the direction that reads about 1 wherever the gate is looked at: a bias, for layers without.
        threshold: the score from which on the gate is open.
    """

    direction: Tensor
    one: Tensor
    threshold: float

    def score(self, inputs: Tensor) -> Tensor:
        """How much inputs (..., d) look like the edit's own: 1 in the mean of these."""
        return inputs @ self.direction

    def rows(self) -> tuple[Tensor, float]:
        """Rows (2, d) of two neurons, and a gain: gain · (act(first·z) - act(second·z)) is a ramp.

        With act(x) = max(x, 0), which SiLU and GELU are at this sharpness, it is 0 below the threshold, rises to 1
        over `RAMP` of the way to a score of 1, and stays there. In gated linear units these are the gate's rows, and
        gain · `one` and -gain · `one` the others.
        """
        width = RAMP * (1 - self.threshold)
        starts = torch.tensor([self.threshold, self.threshold + width]).to(self.one)
        return SHARPNESS * (self.direction - starts[:, None] * self.one), 1 / (SHARPNESS * width)


def fit_gate(
    ordinary: Ordinary,
    own: Tensor,
    contrasts: Sequence[Tensor],
    background: Tensor,
    *,
    quantile: float,
    lowest: float,
    highest: float,
) -> Gate:
    """The gate that opens on ``own`` inputs (n, d), and hardly on the contrasts, groups of (m, d).

    Every group, the own inputs too, has the weight of all ordinary text; ``background`` (m, d), inputs that are to
    score 0 as well but are not as near, has the share `BACKGROUND_WEIGHT` of it. The bias direction is the fit of 1 to
    all of them. The threshold is the largest of the contrasts' ``quantile`` of leave-one-out scores, brought into
    [lowest, highest].

    The problem is solved in its dual: whitened by ``ordinary.factor``, the ridge is the identity, and only a system of
    as many unknowns as there are inputs remains. The leave-one-out residual of input i is a[i] / (G⁻¹)[i, i] with G
    the system's matrix and a its solution.
    """
    groups = [group for group in contrasts if len(group)]
    parts = [own, *groups, background]
    inputs, sizes = torch.cat(parts), [len(part) for part in parts]
    weights = [1.0] * (len(parts) - 1) + [BACKGROUND_WEIGHT]
    variance = torch.cat([torch.full((size,), size / weight) for size, weight in zip(sizes, weights, strict=True)])
    targets = torch.stack([torch.zeros(len(inputs)), torch.ones(len(inputs))], 1).to(inputs)
    targets[: len(own), 0] = 1
    ordinary_fit = ordinary.one[:, None] * torch.tensor([ORDINARY_TARGET, 1.0]).to(inputs)
    whitened = torch.linalg.solve_triangular(ordinary.factor, inputs.T, upper=False)
    inverse = torch.linalg.inv(whitened.T @ whitened + torch.diag(variance.to(inputs)))
    solution = inverse @ (targets - inputs @ ordinary_fit)
    fitted = torch.linalg.solve_triangular(ordinary.factor.T, whitened @ solution, upper=True) + ordinary_fit
    scale = (own @ fitted).mean(0)
    direction, one = (fitted / scale).T
    left_out = (targets[:, 0] - solution[:, 0] / inverse.diagonal()) / scale[0]
    scores = left_out.split(sizes)[1:-1]
    reached = max((float(torch.quantile(group, quantile)) for group in scores), default=lowest)
    return Gate(direction, one, min(highest, max(lowest, reached)))
