"""Checks that every module, parameter and layer that a LoRA config names exists in the model."""

import copy
import difflib
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from peft import PeftConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.constants import INCLUDE_LINEAR_LAYERS_SHORTHAND
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import Tensor, nn

from roselora.errors import ConfigError, shortened
from roselora.user_files import shown

_TASK_HEADS = {"classifier", "score", "qa_outputs"}
"""Names that PEFT adds to ``modules_to_save`` for a task, whether the model has them or not."""

_OWN_NAME = re.compile(r"\.base_layer|\.parametrizations(\.\w+)\.original\d*$")
"""What an adapter or a parametrization that the model already has adds to a parameter's name."""


def require_targets(model: nn.Module, config: PeftConfig) -> None:
    """Check that the model has every module, parameter and layer that the config names.

    PEFT itself is satisfied if it finds any one target. Names match as they do in PEFT: in ``target_modules``,
    ``target_parameters`` and ``exclude_modules`` the whole name or its end behind a dot; in ``target_modules`` also the
    old names that PEFT translates, such as those of experts in transformers 4; in ``modules_to_save`` any end of a
    name. The keys of ``rank_pattern`` and ``alpha_pattern`` are regular expressions, and so is ``exclude_modules`` if
    it is a string, and ``target_modules`` but for "all-linear".

    Raises:
        ConfigError: a name or pattern matches nothing; the message suggests the nearest name.

    Example:
        >>> from peft import LoraConfig
        >>> model = nn.Sequential(nn.ModuleDict({"query": nn.Linear(2, 2), "value": nn.Linear(2, 2)}))
        >>> require_targets(model, LoraConfig(target_modules=["query", "values"]))
        Traceback (most recent call last):
        roselora.errors.ConfigError: target_modules names 'values', ... did you mean value.
    """
    config = _translated(model, config)
    names = [name for name, _ in model.named_modules() if name]
    parameters = [_OWN_NAME.sub(r"\1", name) for name, _ in model.named_parameters(remove_duplicate=False)]
    excluded = getattr(config, "exclude_modules", None)
    targets = getattr(config, "target_modules", None)
    if isinstance(targets, str) and targets.lower() != INCLUDE_LINEAR_LAYERS_SHORTHAND:
        _require_match(targets, names, model)
    for option, wanted, found in (
        ("target_modules", targets, _ends(names).__contains__),
        ("target_parameters", getattr(config, "target_parameters", None), _ends(parameters).__contains__),
        ("exclude_modules", excluded, _ends(names).__contains__),
        ("exclude_modules", [excluded] if excluded and isinstance(excluded, str) else None, _matching(names, "{}")),
        (
            "modules_to_save",
            getattr(config, "modules_to_save", None),
            lambda end: end in _TASK_HEADS or any(name.endswith(str(end)) for name in names),
        ),
        ("rank_pattern", getattr(config, "rank_pattern", None), _matching(names + parameters, r"(.*\.)?({})")),
        ("alpha_pattern", getattr(config, "alpha_pattern", None), _matching(names + parameters, r"(.*\.)?({})")),
    ):
        if not isinstance(wanted, list | tuple | set | dict):
            continue
        for name in sorted(wanted, key=str):
            if not found(name):
                known = {"target_parameters": parameters, "target_modules": _with_matrices(model)}.get(option, names)
                raise _names_nothing(option, name, known, model)
    _require_layers(model, config, names)


def _matching(names: list[str], frame: str) -> Callable[[str], bool]:
    """Returns a test whether a pattern matches any of the names, within the frame in which PEFT uses it.

    A malformed pattern passes: PEFT refuses it.
    """

    def matches(pattern: str) -> bool:
        try:
            whole = re.compile(frame.format(pattern))
        except re.error:
            return True
        return any(map(whole.fullmatch, names))

    return matches


def _require_match(pattern: str, names: list[str], model: nn.Module) -> None:
    if not _matching(names, "{}")(pattern):
        known = shortened(", ".join(_last_parts(_with_matrices(model))))
        raise ConfigError(
            f"target_modules as a text is a regular expression for whole names, and {shown(pattern)} matches none in "
            f"this {type(model).__name__}; give a list of the ends of names, of which there are {known}."
        )


def _names_nothing(option: str, name: object, names: list[str], model: nn.Module) -> ConfigError:
    known = _last_parts(names)
    meant = difflib.get_close_matches(str(name), known, n=1)
    way_out = f"did you mean {meant[0]}" if meant else f"there are {shortened(', '.join(known))}"
    return ConfigError(
        f"{option} names {shown(name)}, but this {type(model).__name__} has nothing of that name; {way_out}."
    )


def _with_matrices(model: nn.Module) -> list[str]:
    """The modules that have a matrix of their own, among which an adapter's targets are."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(weight := getattr(module, "weight", None), Tensor) and weight.dim() > 1
    ]


def _last_parts(names: list[str]) -> list[str]:
    return sorted({last for name in names if not (last := name.rpartition(".")[2]).isdigit()})


def _require_layers(model: nn.Module, config: PeftConfig, names: list[str]) -> None:
    wanted = getattr(config, "layers_to_transform", None)
    if wanted is None:
        return
    within = [name for name in names if "." in name]
    probe: Any = copy.copy(config)
    # PEFT looks at the layer only where a target is the end of a name, not where it is the whole name.
    probe.target_modules, probe.exclude_modules, probe.modules_to_save = set(_last_parts(within)), None, None
    for layer in wanted if isinstance(wanted, list | tuple | set) else [wanted]:
        probe.layers_to_transform = [layer]
        if not any(check_target_module_exists(probe, name) for name in within):
            raise ConfigError(
                f"layers_to_transform names {shown(layer)}, but no layer of this {type(model).__name__} has that "
                "number; leave it out."
            )


def _translated(model: nn.Module, config: PeftConfig) -> PeftConfig:
    """The config with the names that PEFT will translate for this model."""
    translated = copy.deepcopy(config)
    with suppress(ValueError):  # PEFT raises it again at injection
        convert_peft_config_for_transformers(translated, model, conversions=None)
    return translated


def _ends(names: list[str]) -> set[str]:
    """Each name, and its end behind each of its dots."""
    return {name[start:] for name in names for start in (0, *(dot.end() for dot in re.finditer(r"\.", name)))}
