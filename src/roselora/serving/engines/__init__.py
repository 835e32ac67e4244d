"""The programs that people serve models with, each asked in a process of its own what it answers with an export.

`ENGINES` lists them. A module here has one function, ``answers``, that loads an export in one program:

    answers(export: Export, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int] | str]

gives the greedy continuation of each prompt, which is tokens, by at most so many tokens: as tokens, or, of a program
that gives text alone, as text.
"""

import importlib.util
from dataclasses import dataclass
from typing import Literal

Kind = Literal["model", "lora", "gguf", "gguf-lora", "mlx"]
"""What an export is; see `edit_export.export_edits`."""


@dataclass(frozen=True)
class Export:
    """An export that a program is to load.

    Attributes:
        path: of the folder or file.
        kind: what it is.
        base: the folder of the base model, or for "gguf-lora" its GGUF file; for an adapter.
    """

    path: str
    kind: Kind
    base: str


@dataclass(frozen=True)
class Engine:
    """A program.

    Attributes:
        name: what it is called.
        module: the module in this package that asks it.
        package: what must be importable for that.
        requirement: what pip installs it by.
        kinds: the kinds of export that it loads.
    """

    name: str
    module: str
    package: str
    requirement: str
    kinds: tuple[Kind, ...]

    @property
    def installed(self) -> bool:
        """Whether it can be asked."""
        return importlib.util.find_spec(self.package) is not None


ENGINES = (
    Engine("transformers", "transformers_engine", "transformers", "roselora", ("model",)),
    Engine("PEFT", "peft_engine", "peft", "roselora", ("lora",)),
    Engine("llama.cpp", "llama_cpp", "xllamacpp", "roselora[llama-cpp]", ("gguf", "gguf-lora")),
    Engine("MLX", "mlx", "mlx_lm", "roselora[mlx]", ("model", "mlx")),
)
