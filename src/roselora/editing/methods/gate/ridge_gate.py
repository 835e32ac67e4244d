"""A neuron that wakes on a few inputs alone: its direction by ridge regression, its threshold by leave-one-out.

Let z (d,) be what a layer reads at one token. An edit's *own* inputs are those at which the model is to say something
new; *contrasts* are inputs close to them at which it is not: the same subject asked something else, another subject
asked the same. The direction w of a gate is the least-squares fit, with a ridge penalty, of

    w·z = 1 on own inputs,    w·z = 0 on contrasts,    w·z = -1 on ordinary text.

These are the targets of a logical *and* that is linear: what shares the subject alone or the relation alone with the
edit is half way between what shares both and what shares neither. A neuron with this gate is active where w·z exceeds
a threshold, which few contrasts would have exceeded had they not been fitted, and the more so, the higher w·z.

*Held* inputs, those at which other edits are said, may be thousands. They are known exactly, and most are far away:
those that score highest are made contrasts, in rounds, and the threshold is not below the score of any. (Training on
the negatives that a first fit takes for positives: Sung & Poggio, 1998, IEEE TPAMI 20(1).)

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

HARDEST, ROUNDS = 32, 2
"""How many held inputs become contrasts in a round, and how many rounds there are."""

REWORDED_WEIGHT = 0.3
"""The weight of generated rephrasings in the fit and in training; that of the edited prompts is 1."""


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

    def row(self) -> tuple[Tensor, float]:
        """The row (d,) of a neuron, and a gain: gain · act(row·z) is how far the gate is open.

        With act(x) = max(x, 0), which SiLU and GELU are at this sharpness, that is 0 below the threshold and rises
        from there in a line that is 1 at a score of 1. In gated linear units this is the gate's row, and gain · `one`
        the other.
        """
        return SHARPNESS * (self.direction - self.threshold * self.one), 1 / (SHARPNESS * (1 - self.threshold))


def fit_gate(
    ordinary: Ordinary,
    own: Tensor,
    reworded: Tensor,
    contrasts: Sequence[Tensor],
    background: Tensor,
    held: Tensor,
    *,
    quantile: float,
    lowest: float,
    highest: float,
) -> Gate:
    """The gate that opens on ``own`` inputs (n, d), on most ``reworded`` ones (m, d), and hardly on the contrasts.

    The own inputs, and every group of contrasts (m, d), have the weight of all ordinary text. Two kinds have a share
    of it: the reworded inputs, which are to score 1 too, `REWORDED_WEIGHT`, and ``background`` (m, d), which is to
    score 0 but is not as near as contrasts are, `BACKGROUND_WEIGHT`. Those of the ``held`` inputs (m, d) that score
    highest are one more group. The bias direction is the fit of 1 to all. The threshold is the largest of the groups'
    ``quantile`` of leave-one-out scores and of the held inputs' scores, brought into [lowest, highest].
    """

    def fit(hardest: Tensor) -> tuple[Tensor, Tensor, list[float]]:
        return _fit(ordinary, own, reworded, [*contrasts, held[hardest]], background, quantile)

    hardest = torch.empty(0, dtype=torch.long, device=held.device)
    direction, one, reached = fit(hardest)
    for _ in range(ROUNDS if len(held) else 0):
        scored = (held @ direction).topk(min(HARDEST, len(held))).indices
        hardest = torch.unique(torch.cat([hardest, scored]))
        direction, one, reached = fit(hardest)
    if len(held):
        reached.append(float((held @ direction).max()))
    return Gate(direction, one, min(highest, max([lowest, *reached])))


def _fit(
    ordinary: Ordinary,
    own: Tensor,
    reworded: Tensor,
    contrasts: Sequence[Tensor],
    background: Tensor,
    quantile: float,
) -> tuple[Tensor, Tensor, list[float]]:
    """The direction, the bias direction, and each group's quantile of leave-one-out scores.

    The problem is solved in its dual: whitened by ``ordinary.factor``, the ridge is the identity, and only a system of
    as many unknowns as there are inputs remains. The leave-one-out residual of input i is a[i] / (G⁻¹)[i, i] with G
    the system's matrix and a its solution.
    """
    parts = [(own, 1.0, 1.0), (reworded, 1.0, REWORDED_WEIGHT), (background, 0.0, BACKGROUND_WEIGHT)]
    parts = [part for part in (*parts, *((group, 0.0, 1.0) for group in contrasts)) if len(part[0])]
    inputs, sizes = torch.cat([part for part, _, _ in parts]), [len(part) for part, _, _ in parts]
    variance = torch.cat([torch.full((len(part),), len(part) / weight) for part, _, weight in parts])
    wanted = torch.cat([torch.full((len(part),), target) for part, target, _ in parts])
    targets = torch.stack([wanted, torch.ones(len(inputs))], 1).to(inputs)
    ordinary_fit = ordinary.one[:, None] * torch.tensor([ORDINARY_TARGET, 1.0]).to(inputs)
    whitened = torch.linalg.solve_triangular(ordinary.factor, inputs.T, upper=False)
    inverse = torch.linalg.inv(whitened.T @ whitened + torch.diag(variance.to(inputs)))
    solution = inverse @ (targets - inputs @ ordinary_fit)
    fitted = torch.linalg.solve_triangular(ordinary.factor.T, whitened @ solution, upper=True) + ordinary_fit
    scale = (own @ fitted).mean(0)
    direction, one = (fitted / scale).T
    left_out = (targets[:, 0] - solution[:, 0] / inverse.diagonal()) / scale[0]
    scores = left_out.split(sizes)[len(sizes) - sum(len(group) > 0 for group in contrasts) :]
    return direction, one, [float(torch.quantile(group, quantile)) for group in scores]
