"""Every editing method by name: a new one is one file and one row here."""

from roselora.bench.methods import (
    adalora,
    alphaedit,
    fact_in_prompt,
    ft_l,
    ft_m,
    gate,
    grace,
    locft,
    lora,
    memit,
    no_edit,
    rome,
    rose,
    with_consequences,
)
from roselora.bench.methods.edit_method import Method

_ROWS = (
    no_edit.METHOD,
    fact_in_prompt.METHOD,
    ft_l.METHOD,
    ft_m.METHOD,
    locft.METHOD,
    lora.METHOD,
    adalora.METHOD,
    rome.METHOD,
    memit.METHOD,
    alphaedit.METHOD,
    grace.METHOD,
    rose.METHOD,
    rose.PUBLISHED,
    gate.METHOD,
    with_consequences.ROSE,
    with_consequences.GATE,
)

METHODS: dict[str, Method] = {method.name: method for method in _ROWS}
"""Every method by its name."""
