"""GRACE's codebook admits keys by the paper's rules, and a lookup replaces exactly the outputs within a radius."""

import pytest
import torch
from torch import Tensor

from roselora.bench.methods.grace_codebook import Codebook, Lookup
from roselora.errors import ConfigError

ROME, OSLO = torch.tensor([5, 6, 7]), torch.tensor([8, 9])
VALUE = torch.tensor([1.0, 1.0])


def at(*coordinates: float) -> Tensor:
    return torch.tensor(coordinates, dtype=torch.float32)


@pytest.fixture
def one() -> Codebook:
    """One entry: at the origin, with radius 1, for ROME."""
    return Codebook.empty(2, 2).admit(at(0, 0), VALUE, ROME, 1.0)[0]


def test_a_far_key_gets_an_entry_of_its_own(one: Codebook) -> None:
    book, index = one.admit(at(0, 2.5), 2 * VALUE, ROME, 1.0)  # beyond its radius and the new one's
    assert index == 1
    assert book.radii.tolist() == [1.0, 1.0]
    assert book.values.tolist() == [[1.0, 1.0], [2.0, 2.0]]


def test_a_near_key_with_the_same_label_widens_the_entry(one: Codebook) -> None:
    book, index = one.admit(at(0, 1.5), 2 * VALUE, ROME, 1.0)
    assert index == 0
    assert book.radii.tolist() == pytest.approx([1.5], rel=2e-3)
    assert float(book.radii) >= 1.5
    assert torch.equal(book.keys, one.keys)
    assert one.admit(at(0, 0.5), VALUE, ROME, 1.0)[0].radii.tolist() == [1.0]


def test_a_near_key_with_another_label_halves_the_distance_between_the_two(one: Codebook) -> None:
    book, index = one.admit(at(0, 0.8), 2 * VALUE, OSLO, 1.0)
    assert index == 1
    assert book.radii.tolist() == pytest.approx([0.4, 0.4])
    distances, indices = book.nearest(torch.tensor([[[0.0, 0.3], [0.0, 0.5]]]))
    assert indices.tolist() == [[0, 1]]
    assert distances[0].tolist() == pytest.approx([0.3, 0.3])


def test_a_split_never_widens_a_radius(one: Codebook) -> None:
    small, _ = one.admit(at(0, 0.4), VALUE, OSLO, 1.0)  # both radii 0.2
    book, _ = small.admit(at(-1.0, 0), VALUE, OSLO, 1.0)
    assert book.radii.tolist() == pytest.approx([0.2, 0.2, 0.5])


def test_the_same_key_with_another_label_takes_the_entry_over(one: Codebook) -> None:
    two, _ = one.admit(at(9, 0), 3 * VALUE, ROME, 1.0)
    book, index = two.admit(at(0, 0), 2 * VALUE, OSLO, 1.0)
    assert index == 1
    assert book.keys.tolist() == [[9, 0], [0, 0]]
    assert book.values.tolist() == [[3, 3], [2, 2]]
    assert book.radii.tolist() == [1.0, 1.0]


def test_labels_of_other_lengths_stay_apart(one: Codebook) -> None:
    longer = torch.tensor([5, 6, 7, 4])
    book, _ = one.admit(at(0, 0.8), VALUE, longer, 1.0)
    assert book.admit(at(0, 0.1), VALUE, ROME, 1.0)[1] == 0
    assert book.admit(at(0, 0.7), VALUE, longer, 1.0)[1] == 1


def test_a_memory_that_is_not_of_this_layer_is_refused(one: Codebook) -> None:
    with pytest.raises(ConfigError, match="keys"):
        Codebook.from_memory({"values": VALUE}, 2, 2)
    with pytest.raises(ConfigError, match="this layer takes 3"):
        Codebook.from_memory(one.memory(), 3, 2)


def test_only_the_positions_within_a_radius_get_the_value(one: Codebook) -> None:
    layer = torch.nn.Linear(2, 2)
    inputs = torch.tensor([[[0.0, 0.9], [0.0, 1.1], [5.0, 0.0]]])
    plain = layer(inputs)
    layer.register_forward_hook(Lookup(one))
    expected = plain.clone()
    expected[0, 0] = VALUE
    torch.testing.assert_close(layer(inputs), expected, rtol=0, atol=0)
