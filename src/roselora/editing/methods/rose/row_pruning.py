"""The paper's pruning around each step of an optimizer, of matrices that are no adapter's."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from roselora.adapter.config import RoseLoraConfig
from roselora.core.importance import sensitivity, smooth_importance_
from roselora.core.pruning import prune_rows_
from roselora.core.schedule import density_at
from roselora.editing.methods.rose.rose_settings import EditSettings


class RowPruning:
    """Keeps the most important entries of every row of some matrices (Eq. 3, 4 and 8 to 10).

    Args:
        parameters: (k, n) each; here k columns of B, which compete each within itself.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], settings: EditSettings) -> None:
        self._parameters, self._settings = parameters, settings
        self._importance: dict[int, Tensor] = {}

    @torch.no_grad()
    def score(self) -> None:
        """Update the importance from the gradients, before the optimizer's step."""
        for number, parameter in enumerate(self._parameters):
            if parameter.grad is not None:
                new = sensitivity(parameter, parameter.grad)
                known = self._importance.get(number)
                self._importance[number] = (
                    new if known is None else smooth_importance_(known, new, RoseLoraConfig.importance_beta)
                )

    @torch.no_grad()
    def prune(self, step: int) -> None:
        """Prune what the optimizer's step, counted from 0, has changed."""
        start, end = self._settings.warmup, self._settings.first_stop
        density = density_at(step + 1, target=self._settings.density, ramp_start=start, ramp_end=end)
        for number, parameter in enumerate(self._parameters):
            if parameter.grad is not None:
                prune_rows_(parameter, self._importance[number], density)
