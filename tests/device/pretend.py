"""A pretend accelerator: its memory and its kernels are the CPU's, and it refuses what CUDA refuses.

It is torch's PrivateUse1 device, set up in Python alone. Its tensors lie in ordinary memory: DLPack hands one from a
device to the other, with the device's number changed on the way. One fallback kernel takes every operation, refuses it
if its tensors are on different devices, and lets the CPU compute it. Importing this module registers the device, for as
long as the process lives: the tests that need it run in a process of their own.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"

has_float64 = True
"""Whether it has, as CUDA has and MPS has not."""

_CPU, _EXTENSION = 1, 12  # kDLCPU and kDLExtDev of dlpack.h
_COPIES = {"aten::copy_", "aten::_to_copy", "aten::_copy_from"}
_INDEXED = {"aten::index", "aten::_index_put_impl_", "aten::index_put", "aten::index_put_"}
_BY_INDEX = ("aten::index_", "aten::gather", "aten::scatter", "aten::embedding", "aten::take")

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def _seen_from(tensor: Tensor, device: int) -> Tensor:
    """The same memory as a tensor of another device."""
    capsule = torch._C._to_dlpack(tensor)
    ctypes.c_int32.from_address(_pointer(capsule, b"dltensor") + 8).value = device  # behind the data's address
    seen: Tensor = torch._C._from_dlpack(capsule)
    return seen


def _is_pretend(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type == NAME


class _Call:
    """One operation on its way to the CPU and back.

    Attributes:
        own: by the id of what the CPU is given, that and the tensor that it stands for.
        grown: empty tensors that the operation is to fill, which the CPU may have to make larger.
    """

    def __init__(self, operation: Any) -> None:
        self.operation, self.name = operation, operation._schema.name
        self.own: dict[int, tuple[Any, Tensor]] = {}
        self.grown: list[tuple[Tensor, Tensor]] = []

    def down(self, value: Any, written: bool = False) -> Any:
        """What the CPU is given for an argument."""
        if isinstance(value, list | tuple):
            return type(value)(self.down(item, written) for item in value)
        if isinstance(value, torch.device):
            return torch.device("cpu") if value.type == NAME else value
        if not isinstance(value, Tensor):
            return value
        if not _is_pretend(value):
            return self._stranger(value, written)
        if written and value.numel() == 0:
            twin = torch.empty_like(value, device="cpu")
            self.grown.append((twin, value))
        else:
            twin = _seen_from(value, _CPU)
        self.own[id(twin)] = twin, value
        return twin

    def _stranger(self, value: Tensor, written: bool) -> Tensor:
        """A tensor of another device, where CUDA would take it: the CPU's single numbers, and what is copied."""
        number = value.dim() == 0 and not written and not self.name.startswith(_BY_INDEX)
        if self.name not in _COPIES and not number:
            raise RuntimeError(
                f"{self.operation} has tensors on {NAME} and on {value.device}: {tuple(value.shape)}, {value.dtype}"
            )
        self.own[id(value)] = value, value
        return value

    def up(self, value: Any, on_cpu: bool) -> Any:
        """What the caller is given for a result."""
        if isinstance(value, list | tuple):
            return type(value)(self.up(item, on_cpu) for item in value)
        if not isinstance(value, Tensor):
            return value
        if id(value) in self.own:
            return self.own[id(value)][1]
        if not on_cpu and not has_float64 and value.dtype == torch.float64:
            raise TypeError(f"{self.operation} would make float64, which {NAME} does not have")
        return value if on_cpu else _seen_from(value, _EXTENSION)


def _compute(operation: Any, *arguments: Any, **named: Any) -> Any:
    """Every operation of the device."""
    call = _Call(operation)
    if call.name == "aten::_copy_from":
        source, target = (call.down(tensor) for tensor in arguments[:2])
        target.copy_(source)
        return arguments[1]
    if call.name == "aten::resize_":
        arguments[0].data = _seen_from(torch.empty(arguments[1], dtype=arguments[0].dtype), _EXTENSION)
        return arguments[0]
    schema = operation._schema.arguments
    written = {argument.name for argument in schema if argument.is_write}
    given = []
    for argument, value in zip(schema, arguments, strict=False):
        if argument.name == "indices" and call.name in _INDEXED and _is_pretend(arguments[0]):
            value = [index if index is None or index.device.type == "cpu" else call.down(index) for index in value]
            given.append(value)
        elif isinstance(value, bool | int | float) and isinstance(argument.type, torch.TensorType):
            # A number that torch has wrapped into a tensor is shown to Python as the number again.
            like = next(tensor for tensor in arguments if _is_pretend(tensor))
            given.append(torch.tensor(value, dtype=torch.result_type(like, value)))
        else:
            given.append(call.down(value, argument.name in written))
    named_given = {name: call.down(value, name in written) for name, value in named.items()}
    with torch._C._AutoDispatchBelowAutograd():
        result = operation(*given, **named_given)
    for twin, value in call.grown:
        value.data = _seen_from(twin, _EXTENSION)
    wanted = named.get("device")
    return call.up(result, isinstance(wanted, torch.device) and wanted.type == "cpu")


class _Module:
    """What torch asks a kind of device for: one device, whose random numbers are the CPU's."""

    is_available = is_initialized = staticmethod(lambda: True)
    _is_in_bad_fork = staticmethod(lambda: False)
    device_count = staticmethod(lambda: 1)
    current_device = staticmethod(lambda: 0)
    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16, torch.float16])
    get_rng_state = staticmethod(lambda device=0: torch.get_rng_state())
    set_rng_state = staticmethod(lambda state, device=0: torch.set_rng_state(state))
    manual_seed = manual_seed_all = staticmethod(lambda seed: None)


_setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
_library = torch.library.Library("_", "IMPL")
_library.fallback(_compute, "PrivateUse1")
# Module.to would make new parameters for a device that is strange to the CPU, and so untie those that are tied.
torch.__future__.set_swap_module_params_on_conversion(True)

_copy = Tensor.__deepcopy__


def _deep_copy(self: Tensor, memo: dict[int, Any]) -> Tensor:
    """Torch would ask the device for memory by an allocator, which is made in C++ alone."""
    if id(self) not in memo and _is_pretend(self) and self.is_leaf:
        memo[id(self)] = self.detach().clone().requires_grad_(self.requires_grad)
    return _copy(self, memo)  # type: ignore[no-any-return, no-untyped-call]


Tensor.__deepcopy__ = _deep_copy  # type: ignore[method-assign, assignment]

_storage_on_cpu = torch.UntypedStorage.cpu


def _copied_to_cpu(self: torch.UntypedStorage) -> torch.UntypedStorage:
    """As `torch.save` asks for the memory of a tensor, again without an allocator."""
    if self.device.type != NAME:
        return _storage_on_cpu(self)
    copied = bytearray(ctypes.string_at(self.data_ptr(), self.nbytes()))
    return torch.frombuffer(copied, dtype=torch.uint8).untyped_storage()


torch.UntypedStorage.cpu = _copied_to_cpu  # type: ignore[method-assign]
