"""The package as it is given to others: its wheel and source distribution, built as pip builds them."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def build(folder: Path) -> tuple[Path, Path]:
    """Build both into a folder; returns the wheel and the source distribution."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True)
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, source


def names_in(archive: Path) -> list[str]:
    """The files in a wheel or a source distribution, without the folder that the latter begins with."""
    if archive.suffix == ".whl":
        return zipfile.ZipFile(archive).namelist()
    with tarfile.open(archive) as file:
        return [member.name.split("/", 1)[1] for member in file.getmembers() if member.isfile()]
