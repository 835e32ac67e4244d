"""A model's fingerprint: one SHA-256 over all of its weights, the same on every device."""

import hashlib

import torch
from torch import Tensor, nn

from roselora.errors import ModelError

CHUNK_BYTES = 1 << 24


def fingerprint(model: nn.Module) -> str:
    """SHA-256, in hex, over name, dtype, shape and raw bytes of every tensor of the state dict, in its order.

    Tensors that share memory (tied embeddings) count once, under their first name. The device makes no difference, nor
    does ``requires_grad``. Any dtype works. At most 16 MiB are copied at a time from contiguous tensors.

    Raises:
        ModelError: a tensor is on the meta device, so it has no bytes.
    """
    digest = hashlib.sha256()
    seen: set[tuple[object, ...]] = set()
    for name, tensor in model.state_dict().items():
        if tensor.is_meta:
            raise ModelError(f"{name} is on the meta device and has no bytes: load the model first.")
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        header = f"{name}\0{tensor.dtype}\0{','.join(map(str, tensor.shape))}\0"
        digest.update(header.encode())
        _update(digest, tensor)
    return digest.hexdigest()


def _update(digest: "hashlib._Hash", tensor: Tensor) -> None:
    """Hash the elements of ``tensor`` in row-major order, in chunks that move to the CPU one by one."""
    elements = tensor.detach().reshape(-1)
    step = max(1, CHUNK_BYTES // tensor.element_size())
    for start in range(0, elements.numel(), step):
        chunk = elements[start : start + step].cpu().contiguous()
        digest.update(chunk.view(torch.uint8).numpy().data)
