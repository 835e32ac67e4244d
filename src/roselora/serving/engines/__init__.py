"""The programs that people serve models with, each asked in a process of its own what it answers with an export.

`ENGINES` lists them. A module here has one function, ``answers``, that loads an export in one program:

    answers(kind: Kind, path: str, base: str, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int] | str]

gives the greedy continuation of each prompt, which is tokens, by at most so many tokens: as tokens, or, of a program
that gives text alone, as text. The first three arguments are those of an `Export`. Such a module imports nothing of
roselora, because it may run in another environment: some programs need other versions of our own requirements.
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
        kind: what it is.
        path: of the folder or file.
        base: the folder of the base model, or for "gguf-lora" its GGUF file; for an adapter.
    """

    kind: Kind
    path: str
    base: str


@dataclass(frozen=True)
class Engine:
    """A program.

    Attributes:
        name: what it is called.
        module: the module in this package that asks it.
        package: what it is imported as.
        install: how it gets here, as a command or advice.
        kinds: the kinds of export that it loads.
        python: the Python interpreter that has it; None for this one.
    """

    name: str
    module: str
    package: str
    install: str
    kinds: tuple[Kind, ...]
    python: str | None = None

    @property
    def installed(self) -> bool:
        """Whether it can be asked, as far as can be seen from here."""
        return self.python is not None or importlib.util.find_spec(self.package) is not None


_OWN = "its requirements contradict ours, so install it in an environment of its own and name that with --python"

ENGINES = (
    Engine("transformers", "transformers_engine", "transformers", "pip install roselora", ("model",)),
    Engine("PEFT", "transformers_engine", "peft", "pip install roselora", ("lora",)),
    Engine("llama.cpp", "llama_cpp", "xllamacpp", "pip install 'roselora[llama-cpp]'", ("gguf", "gguf-lora")),
    Engine("MLX", "mlx_engine", "mlx_lm", "pip install 'roselora[mlx]'", ("model", "mlx")),
    Engine("vLLM", "vllm_engine", "vllm", _OWN, ("model", "lora")),
    Engine("OpenVINO", "openvino_engine", "openvino_genai", _OWN, ("model", "lora")),
)
