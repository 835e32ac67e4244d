"""Which modules of a model an adapter is asked for."""

import difflib
from typing import Any

from torch import nn

from roselora.errors import ConfigError, shortened
from roselora.plain_files import shown


def require_targets(model: nn.Module, targets: Any) -> None:
    """See that every name of ``target_modules`` is that of a module; PEFT is content if any of them is.

    Args:
        targets: names, or ends of names from a dot on; anything else, such as a pattern, is PEFT's to check.

    Raises:
        ConfigError: one names nothing; the message says what was meant.
    """
    if not isinstance(targets, list | tuple | set):
        return
    names = [name for name, _ in model.named_modules() if name]
    ends = {name[start:] for name in names for start in (0, *_after_dots(name))}
    for target in sorted(targets, key=str):
        if target in ends:
            continue
        known = sorted({last for name in names if not (last := name.rpartition(".")[2]).isdigit()})
        meant = difflib.get_close_matches(str(target), known, n=1)
        way_out = f"did you mean {meant[0]}" if meant else f"there are {shortened(', '.join(known))}"
        raise ConfigError(
            f"target_modules names {shown(target)}, and no module of this {type(model).__name__} is called so; "
            f"{way_out}."
        )


def _after_dots(name: str) -> list[int]:
    return [place + 1 for place, letter in enumerate(name) if letter == "."]
