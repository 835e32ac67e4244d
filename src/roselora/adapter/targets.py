"""Which modules of a model an adapter is asked for."""

import copy
import difflib
from contextlib import suppress

from peft import PeftConfig
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn

from roselora.errors import ConfigError, shortened
from roselora.plain_files import shown


def require_targets(model: nn.Module, config: PeftConfig) -> None:
    """See that every name of ``target_modules`` is that of a module; PEFT is content if any of them is.

    A name may be the end of a module's name from a dot on, or one that PEFT translates, such as those that experts had
    in transformers 4. Anything but a list of names, such as a pattern, is PEFT's to check.

    Raises:
        ConfigError: one names nothing; the message says what was meant.
    """
    targets = getattr(_translated(model, config), "target_modules", None)
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


def _translated(model: nn.Module, config: PeftConfig) -> PeftConfig:
    """What PEFT will make of the config for this model."""
    translated = copy.deepcopy(config)
    with suppress(ValueError):  # which PEFT will raise again, with its reason
        convert_peft_config_for_transformers(translated, model, conversions=None)
    return translated


def _after_dots(name: str) -> list[int]:
    return [place + 1 for place, letter in enumerate(name) if letter == "."]
