"""The errors of roselora.

Every message is one sentence that says what is wrong, in which file or argument, and what to do about it.
"""

import os
import re


def reason_of(error: BaseException) -> str:
    """The first line of an error from a library or the system, short enough for a sentence.

    >>> reason_of(FileNotFoundError(2, "No such file or directory", "a/b.json"))
    'No such file or directory: b.json'
    """
    if isinstance(error, OSError) and error.strerror:
        names = [os.path.basename(os.fsdecode(error.filename))] if error.filename else []
        return shortened(": ".join([error.strerror, *names]))
    lines = str(error).strip().splitlines() or [type(error).__name__]
    from_rust = re.search(r"([^:]+) \(os error \d+\)", lines[0])  # an OSError in safetensors or tokenizers
    return shortened((from_rust[1] if from_rust else lines[0]).strip().rstrip(". :"))


def shortened(text: str, length: int = 200) -> str:
    """A text, cut to a length with "..." at its end if it is longer.

    >>> shortened("a long text", 8)
    'a lon...'
    """
    return text if len(text) <= length else f"{text[: length - 3]}..."


class RoseLoraError(Exception):
    """The base of all errors of roselora; the command line prints its message as one line.

    >>> from roselora import RoseLoraConfig, RoseLoraError
    >>> try:
    ...     RoseLoraConfig(density=2)
    ... except RoseLoraError as error:
    ...     print(error)
    density must be in (0, 1], not 2.
    """


class ConfigError(RoseLoraError, ValueError):
    """A setting, argument or request that cannot work."""


class UnsupportedError(RoseLoraError):
    """A model, adapter variant or optimizer that RoseLoRA does not support."""


class NonFiniteError(RoseLoraError, ArithmeticError):
    """NaN or infinity where finite numbers are needed."""


class SparsityError(RoseLoraError):
    """An adapter that is denser than its config asks for, or that was never pruned."""


class ModelError(RoseLoraError):
    """A model that cannot be found, fetched, checked or loaded."""


class StoppedError(RoseLoraError):
    """Work that was stopped on request and can be resumed; the message says how."""


class EditError(RoseLoraError):
    """An edit that could not be made; the model is unchanged."""


class FileFormatError(RoseLoraError, ValueError):
    """A file that is not in a format of roselora, or is truncated, altered or malformed."""


class WrongBaseError(RoseLoraError):
    """A model with other weights than those that a delta was made for."""


class StoreError(RoseLoraError):
    """An edit store that is missing, damaged or not writable, or an edit that is not in it."""
