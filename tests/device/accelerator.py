"""The accelerator that the tests of this folder run on: an NVIDIA GPU where there is one, else the pretend one."""

import torch

if torch.cuda.is_available():
    NAME = "cuda"
else:
    from tests.device.pretend import NAME

__all__ = ["NAME"]
