"""The device and dtype options of every command that loads a model."""

from typing import Annotated, Literal

import typer

_DEVICE = typer.Option("--device", help="auto (CUDA, then MPS, then the CPU), cpu, cuda, cuda:1 or mps.")
_DTYPE = typer.Option("--dtype", help="Of the model's weights; auto uses the checkpoint's.")
Dtype = Literal["auto", "float32", "bfloat16", "float16"]

DeviceOption = Annotated[str, _DEVICE]
DtypeOption = Annotated[Dtype, _DTYPE]
# For commands with a config file, which the option overrides only if it is given.
DeviceOverride = Annotated[str | None, _DEVICE]
DtypeOverride = Annotated[Dtype | None, _DTYPE]
