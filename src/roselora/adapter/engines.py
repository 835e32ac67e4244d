"""Refuses the training engines that hide A and B in flat buffers, whose rows and columns cannot be pruned."""

from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils.dataclasses import DistributedType
from torch import nn

from roselora.errors import UnsupportedError

_FSDP1 = (
    "RoseLoRA does not support FSDP1, which flattens {name} so that its rows and columns are lost; "
    "use FSDP2 (fully_shard, or fsdp_version: 2 in accelerate's config)."
)
_DEEPSPEED = (
    "RoseLoRA does not support DeepSpeed, which steps flat partitions of its own instead of A and B; "
    "use DDP or FSDP2 (torchrun, or accelerate launch without --use_deepspeed)."
)
# ZeRO 1 and 2 link every parameter to its fp32 master copy; ZeRO 3 numbers the parameters that it has partitioned.
_DEEPSPEED_MARKS = ("_hp_mapping", "ds_id")


def refuse_flat_parameter(name: str, factor: object) -> nn.Parameter:
    """Return a layer's factor, unless an engine keeps its values in a flat buffer.

    Raises:
        UnsupportedError: FSDP1 or DeepSpeed does.
    """
    # In place of a parameter FSDP1 leaves a plain tensor, a view of its flat buffer; under use_orig_params a parameter
    # with this attribute.
    if not isinstance(factor, nn.Parameter) or getattr(factor, "_fsdp_flattened", False):
        raise UnsupportedError(_FSDP1.format(name=name))
    if any(hasattr(factor, mark) for mark in _DEEPSPEED_MARKS):
        raise UnsupportedError(_DEEPSPEED)
    return factor


def refuse_deepspeed() -> None:
    """Refuse to go on if Accelerate (also through Trainer) has set this process up for DeepSpeed.

    Raises:
        UnsupportedError: it has.
    """
    if is_initialized() and AcceleratorState().distributed_type == DistributedType.DEEPSPEED:
        raise UnsupportedError(_DEEPSPEED)
