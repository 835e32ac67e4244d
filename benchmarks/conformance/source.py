"""PEFT's tests, which only its source distribution has, fetched for the installed release."""

import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path


def fetch_peft_tests(folder: Path) -> Path:
    """Download and unpack the source distribution of the installed PEFT; return the folder that holds ``tests``.

    Nothing is built or installed from it: the tests run against the installed package. A second call finds what the
    first has unpacked.
    """
    release = f"peft-{version('peft')}"
    unpacked = folder / release
    if not (unpacked / "tests" / "__init__.py").exists():
        folder.mkdir(parents=True, exist_ok=True)
        requirement = release.replace("-", "==")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "peft", requirement]
        subprocess.run([*pip, "--dest", str(folder)], check=True)
        with tarfile.open(folder / f"{release}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        # The distribution leaves this file out, and the tests import one another relatively.
        (unpacked / "tests" / "__init__.py").touch()
    return unpacked
