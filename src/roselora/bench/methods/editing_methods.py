"""Every editing method by name: a new one is one file and one row here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.adalora import AdaLoraEditConfig, adalora
from roselora.bench.methods.alphaedit import AlphaEditConfig, alphaedit
from roselora.bench.methods.alphaedit import read_text as alphaedit_text
from roselora.bench.methods.applied_edit import EditFunction
from roselora.bench.methods.ft_l import FtLConfig, ft_l
from roselora.bench.methods.ft_m import FtMConfig, ft_m
from roselora.bench.methods.gate import read_text as neurons_text
from roselora.bench.methods.gate import rose_neurons
from roselora.bench.methods.grace import GraceConfig, grace, put_back
from roselora.bench.methods.locft import LocFtConfig, locft_bf
from roselora.bench.methods.lora import LoraEditConfig, lora
from roselora.bench.methods.memit import MemitConfig, memit
from roselora.bench.methods.memit import read_text as memit_text
from roselora.bench.methods.no_edit import NoEditConfig, no_edit
from roselora.bench.methods.rome import RomeConfig, rome
from roselora.bench.methods.rome import read_text as rome_text
from roselora.bench.methods.rose import DEFAULTS, PUBLISHED, rose
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.models.inference import Progress


@dataclass(frozen=True)
class Method:
    """An editing method.

    Attributes:
        name: what it is asked for by.
        edit: its function.
        config: its default settings, a frozen dataclass.
        paper: where it comes from.
        requests_per_call: how many requests one call is meant for; None for all at once.
        put_back: for a method whose edits are not in the weights: puts them into a model by its config and the memory
            of a call, and gives the way back.
        read_text: for a method that reads a text before its first edit; what that gives is kept in its cache.
    """

    name: str
    edit: EditFunction
    config: Any
    paper: str
    requests_per_call: int | None
    read_text: Callable[[PreTrainedModel, PreTrainedTokenizerBase, Any, Progress], None] | None = None
    put_back: Callable[[PreTrainedModel, Any, Mapping[str, Tensor]], Callable[[], None]] | None = None


_ROWS = (
    Method("no-edit", no_edit, NoEditConfig(), "none", 1),
    Method("ft-l", ft_l, FtLConfig(), "Zhu et al., 2020, arXiv 2012.00363", 1),
    Method("ft-m", ft_m, FtMConfig(), "Zhang et al., 2024, arXiv 2401.01286", 1),
    Method("locft-bf", locft_bf, LocFtConfig(), "arXiv 2509.22072", None),
    Method("lora", lora, LoraEditConfig(), "Hu et al., 2021, arXiv 2106.09685", 1),
    Method("adalora", adalora, AdaLoraEditConfig(), "Zhang et al., 2023, arXiv 2303.10512", 1),
    Method(
        "rome",
        rome,
        RomeConfig(),
        "Meng et al., 2022, arXiv 2202.05262",
        1,
        rome_text,
    ),
    Method("memit", memit, MemitConfig(), "Meng et al., 2022, arXiv 2210.07229", 100, memit_text),
    Method("alphaedit", alphaedit, AlphaEditConfig(), "Fang et al., 2024, arXiv 2410.02355", 100, alphaedit_text),
    Method("grace", grace, GraceConfig(), "Hartvigsen et al., 2022, arXiv 2211.11031", 1, put_back=put_back),
    Method(
        "rose", rose, DEFAULTS, "Wang et al., 2024, arXiv 2406.10777; our defaults, unless --settings says otherwise", 1
    ),
    Method("rose-published", rose, PUBLISHED, "Wang et al., 2024, arXiv 2406.10777; the published code's settings", 1),
    Method("gate", rose_neurons, GateSettings(), "ours, `editing/methods/gate`", None, neurons_text),
)

METHODS: dict[str, Method] = {method.name: method for method in _ROWS}
"""Every method by its name."""
