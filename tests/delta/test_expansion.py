"""The product of sparse factors, entry by entry; tests/delta/test_sparse_delta.py compares it with a dense one."""

import torch
from torch import Tensor

from roselora.delta.sparse_delta import SparseFactors

BASE = {"base_dtype": torch.bfloat16, "base_sha256": "a" * 64}


def factors(A: Tensor, B: Tensor) -> SparseFactors:
    return SparseFactors.from_factors("w", A, B, 1.0, **BASE)


def test_terms_are_summed_in_fp32_from_the_first_to_the_last() -> None:
    big, tiny = 2.0**24, 1.0
    A = torch.tensor([[big], [tiny], [-big]])
    assert factors(A, torch.ones(1, 3)).expand()[1].numel() == 0  # (big + 1) - big is 0 in fp32
    A = torch.tensor([[big], [-big], [tiny]])
    assert factors(A, torch.ones(1, 3)).expand()[1].tolist() == [1.0]


def test_the_dense_product_is_never_formed() -> None:
    rows = torch.tensor([[5, 2**30]])
    made = SparseFactors(
        "w",
        torch.ones(1, 2),
        torch.tensor([[0, 2**31]]),
        torch.ones(1, 2),
        rows,
        1.0,
        (2**31, 2**32),
        "linear",
        **BASE,
    )
    assert made.expand()[0].tolist() == [5 * 2**32, 5 * 2**32 + 2**31, 2**62, 2**62 + 2**31]
