"""The errors that roselora raises on purpose: one tree, one sentence each.

Every message says what is wrong, in which file or argument, and what to do about it.
"""


class RoseLoraError(Exception):
    """Anything that roselora refuses; the command line prints its message as one line."""


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
