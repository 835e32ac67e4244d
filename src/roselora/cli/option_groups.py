"""Options that several commands share, declared once as the fields of a dataclass."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_type_hints

Command = Callable[..., None]


def takes_options(**defaults: Any) -> Callable[[Command], Command]:
    """Expand a command's first parameter, a dataclass, into one option for each of its fields.

    Typer reads the options of a command from its signature. The signature that it gets to see has the command's own
    parameters first and then the fields, each with its annotation and default; the command is called with an
    instance of the dataclass.

    Args:
        defaults: for this command, in place of the dataclass's own.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Options:
        ...     seed: int = 0
        >>> @takes_options(seed=7)
        ... def command(options: Options, n: int = 1) -> None:
        ...     print(options.seed, n)
        >>> inspect.signature(command)
        <Signature (n: int = 1, *, seed: int = 7)>
        >>> command(n=2, seed=8)
        8 2
    """

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        group, *own = signature.parameters.values()
        annotations = get_type_hints(group.annotation, include_extras=True)
        shared = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(field.name, field.default),
                annotation=annotations[field.name],
            )
            for field in fields(group.annotation)
        ]

        @functools.wraps(command)
        def expanded(**given: Any) -> None:
            options = group.annotation(**{field.name: given.pop(field.name) for field in shared})
            command(options, **given)

        expanded.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        return expanded

    return decorate
