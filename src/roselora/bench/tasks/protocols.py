"""A published protocol: how it asks, teaches, decodes and reads answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from roselora.bench.tasks.task import Decoding
from roselora.errors import ConfigError


@dataclass(frozen=True)
class Protocol:
    """How one family of test sets is asked under one protocol.

    Attributes:
        ask: an instruction as a test's prompt.
        teach: an instruction as training's prompt.
        decoding: of the answers.
        extraction: given what a test set's answers look like, what is taken from a generated text.
    """

    ask: Callable[[str], str]
    teach: Callable[[str], str]
    decoding: Decoding
    extraction: Callable[[Any], Callable[[str], str]]


def named(protocols: Mapping[str, Protocol], name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in protocols:
        raise ConfigError(f"There is no protocol {name!r}: name one of {', '.join(protocols)}.")
    return protocols[name]
