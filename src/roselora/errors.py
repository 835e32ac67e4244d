"""The errors that roselora raises on purpose: one tree, one sentence each.

Every message says what is wrong, in which file or argument, and what to do about it.
"""

import os
import re


def reason_of(error: BaseException) -> str:
    """What a library, or the system, says went wrong: its first line, short enough for one of our sentences.

    >>> reason_of(FileNotFoundError(2, "No such file or directory", "a/b.json"))
    'No such file or directory: b.json'
    """
    if isinstance(error, OSError) and error.strerror:
        names = [os.path.basename(os.fsdecode(error.filename))] if error.filename else []
        return shortened(": ".join([error.strerror, *names]))
    lines = str(error).strip().splitlines() or [type(error).__name__]
    from_rust = re.search(r"([^:]+) \(os error \d+\)", lines[0])  # what safetensors and tokenizers make of an OSError
    return shortened((from_rust[1] if from_rust else lines[0]).strip().rstrip(". :"))


def shortened(text: str, length: int = 200) -> str:
    """The beginning of a text that may be longer than a message can be."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


class RoseLoraError(Exception):
    """Anything that roselora refuses; the command line prints its message as one line.

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
    """NaN or infinity where numbers are needed."""


class SparsityError(RoseLoraError):
    """An adapter that is denser than it was asked to be, or that was never pruned."""


class ModelError(RoseLoraError):
    """A model that cannot be found, fetched, checked or loaded."""


class StoppedError(RoseLoraError):
    """Work that was stopped on request and can go on; the message says how."""


class EditError(RoseLoraError):
    """An edit that could not be made; the model is as it was before."""


class FileFormatError(RoseLoraError, ValueError):
    """A file that is not one of ours, or that is truncated, altered or malformed."""


class WrongBaseError(RoseLoraError):
    """A model whose weights are not the ones that a delta was made for."""


class StoreError(RoseLoraError):
    """An edit store that is missing, damaged or not writable, or an edit that is not in it."""
