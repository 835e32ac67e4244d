"""Where a verb's model computes, and in which dtype: the options of every verb that loads one."""

from typing import Annotated, Literal

import typer

_DEVICE = typer.Option("--device", help="auto (CUDA, then MPS, then the CPU), cpu, cuda, cuda:1 or mps.")
_DTYPE = typer.Option("--dtype", help="Of the model's weights; auto is the checkpoint's own.")
Dtype = Literal["auto", "float32", "bfloat16", "float16"]

DeviceOption = Annotated[str, _DEVICE]
DtypeOption = Annotated[Dtype, _DTYPE]
# Where a config file may say it too, which only an option that is given overrides.
DeviceOverride = Annotated[str | None, _DEVICE]
DtypeOverride = Annotated[Dtype | None, _DTYPE]
