import torch

from roselora.editing.methods.rose.contrast_start import RIDGE, contrast_directions, new_places


def test_the_directions_are_the_leading_generalized_eigenvectors() -> None:
    torch.manual_seed(0)
    edited, kept = torch.randn(6, 10), torch.randn(15, 10)
    wide = kept.double()
    held = wide.T @ wide / len(wide) + RIDGE * wide.square().mean() * torch.eye(10, dtype=torch.float64)
    asked = edited.double().T @ edited.double()
    values, vectors = torch.linalg.eig(torch.linalg.solve(held, asked))
    leading = vectors.real[:, values.real.argsort(descending=True)[:3]].T
    found = contrast_directions(edited, kept, 3)
    same = torch.nn.functional.cosine_similarity(found.double(), leading).abs()
    torch.testing.assert_close(same, torch.ones(3, dtype=torch.float64), atol=1e-4, rtol=0)


def test_a_direction_has_unit_mean_square_on_the_edited_inputs_and_is_small_on_the_kept() -> None:
    torch.manual_seed(0)
    edited, kept = torch.randn(4, 30), torch.randn(20, 30)
    found = contrast_directions(edited, kept, 2)
    torch.testing.assert_close((edited @ found.T).square().mean(0), torch.ones(2))
    assert float((kept @ found.T).square().mean()) < 0.1


def test_more_directions_than_edited_tokens_are_random_ones_that_respond_to_them_too() -> None:
    torch.manual_seed(0)
    found = contrast_directions(torch.randn(2, 12), torch.randn(5, 12), 4)
    assert found.shape == (4, 12)
    assert bool(found.isfinite().all())
    assert int(torch.linalg.matrix_rank(found)) == 2


def test_new_places_leave_out_first_tokens_and_all_that_another_row_begins_with() -> None:
    assert new_places([[1, 2, 3], [1, 2, 4], [5]], known=[[1, 9]]) == [[1, 2], [2], []]
