import pytest
import torch

from roselora.errors import ConfigError
from roselora.models.devices import device_for, dtype_for, require_dtype


def see(monkeypatch, kind, count):
    """Let torch see so many accelerators of a kind."""
    device = None if kind is None else torch.device(kind)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: device)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)


@pytest.mark.parametrize(("kind", "chosen"), [(None, "cpu"), ("cuda", "cuda"), ("mps", "mps")])
def test_auto_is_the_accelerator_that_is_there_and_else_the_cpu(monkeypatch, kind, chosen):
    see(monkeypatch, kind, 0 if kind is None else 2)
    assert device_for() == device_for("auto") == torch.device(chosen)


@pytest.mark.parametrize("wanted", ["cuda:1", torch.device("cuda:1")])
def test_one_of_several_accelerators_can_be_named(monkeypatch, wanted):
    see(monkeypatch, "cuda", 2)
    assert device_for(wanted) == torch.device("cuda:1")


@pytest.mark.parametrize(
    ("kind", "count", "wanted"),
    [
        (None, 0, "cuda"),
        (None, 0, "mps"),
        ("cuda", 2, "cuda:2"),
        ("cuda", 2, "mps"),
        ("mps", 1, torch.device("cuda")),
        ("cuda", 1, "meta"),
        ("cuda", 1, "gpu"),
        ("cuda", 1, "cuda:x"),
        (None, 0, ""),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(monkeypatch, kind, count, wanted):
    see(monkeypatch, kind, count)
    with pytest.raises(ConfigError) as caught:
        device_for(wanted)
    message = str(caught.value)
    assert str(wanted) in message
    assert message.endswith(
        ": name auto, or one of " + ", ".join(["cpu", *(f"{kind}:{i}" for i in range(count))]) + "."
    )


def test_a_dtype_is_torchs_or_its_name_and_auto_is_the_checkpoints_own():
    cpu = torch.device("cpu")
    assert dtype_for("auto", cpu) is None
    assert dtype_for("bfloat16", cpu) == dtype_for(torch.bfloat16, cpu) == torch.bfloat16


@pytest.mark.parametrize("wanted", ["int8", "bf16", "nn", "", torch.int32, torch.complex64])
def test_what_is_no_dtype_of_floating_point_numbers_is_refused(wanted):
    with pytest.raises(ConfigError, match="is not a dtype to compute in: name auto, float32"):
        dtype_for(wanted, torch.device("cpu"))


def test_a_dtype_in_which_the_device_cannot_compute_is_refused(monkeypatch):
    def ones(*_, **__):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype.\nMPS has none.")

    monkeypatch.setattr(torch, "ones", ones)
    with pytest.raises(ConfigError) as caught:
        require_dtype(torch.float64, torch.device("mps"))
    reason = "Cannot convert a MPS Tensor to float64 dtype"
    assert str(caught.value) == f"The device mps cannot compute in float64 ({reason}): name another dtype."
