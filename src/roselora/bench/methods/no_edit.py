"""No edit: the model as it is, asked the same questions."""

from dataclasses import dataclass

from roselora.bench.methods.edit_method import Applied, EditCall, Method


@dataclass(frozen=True)
class NoEditConfig:
    """No settings."""


def no_edit(call: EditCall[NoEditConfig]) -> Applied:
    """Change nothing: the scores of the unedited model are the zero of every table."""
    return Applied(tuple(call.requests), lambda: None, entries=0)


METHOD = Method("no-edit", no_edit, NoEditConfig(), "none")
