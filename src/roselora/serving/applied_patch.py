"""Sets the entries of a patch file in a model's weights, and takes them back."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from roselora.errors import ConfigError, FileFormatError, WrongBaseError, reason_of
from roselora.files import dtype_name, sha256_tensor
from roselora.serving.weight_patch import HEADER, bits
from roselora.user_files import shown


class _Change(NamedTuple):
    """What one weight's entries become, both (n,) on the weight's device, the values in its dtype."""

    weight: Tensor
    positions: Tensor
    values: Tensor


@torch.no_grad()
def apply_patch(path: str | os.PathLike[str], weights: Mapping[str, Tensor], *, undo: bool = False) -> None:
    """Set a patch's entries in place. All is checked before anything is written.

    A patch of version 2 may be applied twice, and to weights that other patches have changed elsewhere. One of version
    1 is only added to the very base it was made for, and cannot be undone.

    Args:
        path: the patch file.
        weights: a model's weights by their names in the checkpoint, such as ``model.state_dict()`` where the model
            names them as the checkpoint does.
        undo: set the old values instead of the new ones.

    Raises:
        FileFormatError: the file cannot be read, or is not a patch.
        ConfigError: a weight is missing or has another shape or dtype, or the patch has no old values to set.
        WrongBaseError: an entry has neither its old nor its new value, so this is another model.

    Example:
        >>> from roselora.serving.weight_patch import export_patch
        >>> base = torch.zeros(2, 3)
        >>> export_patch([("w", base, torch.tensor([[0.0, 0, 5], [0, 0, 0]]))], "patch.safetensors")
        >>> apply_patch("patch.safetensors", {"w": base})
        >>> base
        tensor([[0., 0., 5.],
                [0., 0., 0.]])
        >>> apply_patch("patch.safetensors", {"w": base}, undo=True)
        >>> int(base.count_nonzero())
        0
    """
    source = Path(path)
    try:
        with safe_open(source, framework="pt") as saved:
            header = json.loads((saved.metadata() or {})[HEADER])
            version, table = header["format_version"], header["weights"]
            if version not in (1, 2):
                raise FileFormatError(f"{source} is a patch of version {shown(version)}; this roselora reads 1 and 2.")
            if version == 1 and undo:
                raise ConfigError(f"{source} is a patch of version 1, which has no old values; load the base again.")
            patch = _Patch(source, saved, version, undo)
            planned = [patch.change(name, entry, weights) for name, entry in table.items()]
    except (FileFormatError, ConfigError):  # both are ValueErrors
        raise
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise FileFormatError(f"{source} is not a patch file that can be read ({reason_of(error)}).") from error
    for change in planned:
        change.weight.view(-1).index_copy_(0, change.positions, change.values)


class _Patch(NamedTuple):
    """An open patch file, and whether its old values are wanted."""

    source: Path
    saved: Any
    version: int
    undo: bool

    def change(self, name: str, entry: Mapping[str, Any], weights: Mapping[str, Tensor]) -> _Change:
        """What one weight's entries become; raises also what malformed headers raise in Python."""
        if name not in weights:
            raise ConfigError(f"The model has no weight {shown(name)}; {self.source} was made for another model.")
        weight = weights[name]
        if not isinstance(weight, Tensor) or weight.is_meta or weight.is_inference():
            raise ConfigError(f"{name} is not a tensor that can be written to; load the model's data, without a mode.")
        weight = weight.detach()
        described, found = [entry["dtype"], *entry["shape"]], [dtype_name(weight.dtype), *weight.shape]
        if described != found:
            raise ConfigError(f"{name} is {found} in the model, but {shown(described)} in {self.source}; load it so.")
        if not weight.is_contiguous():
            raise ConfigError(f"{name} is not contiguous; make the weight contiguous before a patch is applied.")
        index = self.saved.get_tensor(f"{name}.index")
        if index.dtype not in (torch.int32, torch.int64):
            raise self._damaged(f"the positions in {name} are not I32 or I64")
        index = index.long()
        if (
            index.ndim != 1
            or not len(index)
            or (index.diff() <= 0).any()
            or index[0] < 0
            or index[-1] >= weight.numel()
        ):
            raise self._damaged(f"the positions in {name} are not ascending, or outside of the weight")
        kinds, dtype = (("value",), torch.float32) if self.version == 1 else (("value", "old_value"), weight.dtype)
        values = [self.saved.get_tensor(f"{name}.{kind}") for kind in kinds]
        if any(each.shape != index.shape or each.dtype != dtype for each in values):
            raise self._damaged(f"the values for {name} do not fit its positions")
        index = index.to(weight.device)
        present = weight.view(-1)[index].cpu()
        if self.version == 1:
            known = sha256_tensor(weight) == entry["base_sha256"]
            wanted = (present.float() + values[0]).to(weight.dtype)
        else:
            new, old = values
            known = bool(((bits(present) == bits(new)) | (bits(present) == bits(old))).all())
            wanted = old if self.undo else new
        if not known:
            raise WrongBaseError(f"{name} is not the weight that {self.source} was made for; load that model.")
        return _Change(weight, index, wanted.to(weight.device))

    def _damaged(self, why: str) -> FileFormatError:
        return FileFormatError(f"{self.source} is damaged: {why}.")
