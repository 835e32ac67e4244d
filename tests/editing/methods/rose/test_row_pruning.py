import torch
from torch import nn

from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.rose.row_pruning import RowPruning


def test_rows_are_pruned_by_the_smoothed_sensitivity_along_the_schedule() -> None:
    settings = EditSettings(density=0.25, warmup=1, ramp=2)
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.randn(2, 8))
    pruning, weight = RowPruning([parameter], settings), parameter.detach().clone()
    average = torch.zeros(2, 8)
    # The cubic budget: dense after step 1, .25 + .75 / 8 of 8 entries after step 2, and then a quarter.
    for step, kept in enumerate((8, 2, 2, 2)):
        gradient = torch.randn(2, 8)
        parameter.grad = gradient.clone()
        pruning.score()
        score = (weight * gradient).abs()
        average = score if step == 0 else 0.8 * average + 0.2 * score
        with torch.no_grad():  # an optimizer's step
            parameter -= 0.1 * gradient
        weight = weight - 0.1 * gradient
        pruning.prune(step)
        for row, scores in zip(weight, average, strict=True):
            row[scores.argsort(descending=True)[kept:]] = 0
        torch.testing.assert_close(parameter.detach(), weight)
    assert parameter.count_nonzero(1).tolist() == [2, 2]


def test_what_has_no_gradient_stays_as_it_is() -> None:
    still, trained = nn.Parameter(torch.ones(1, 4)), nn.Parameter(torch.ones(1, 4))
    pruning = RowPruning([still, trained], EditSettings(density=0.5, warmup=0, ramp=0))
    trained.grad = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    pruning.score()
    pruning.prune(0)
    assert still.tolist() == [[1, 1, 1, 1]]
    assert trained.tolist() == [[0, 0, 1, 1]]
