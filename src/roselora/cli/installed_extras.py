"""Which of the package's extras are installed, and what each is for."""

from importlib import metadata

from packaging.requirements import Requirement

EXTRAS = {
    "train": "roselora train",
    "bench": "roselora bench",
    "ui": "roselora ui, the page in the browser",
    "llama-cpp": "serve-check in llama.cpp",
    "mlx": "serve-check in MLX",
}
"""What each is for; those for work on roselora itself are left out."""


def extras() -> dict[str, str]:
    """By extra, what it is for, and whether it is there or how it is installed."""
    return {name: f"{_state(name)} ({purpose})" for name, purpose in EXTRAS.items()}


def _state(extra: str) -> str:
    missing = [name for name in _packages(extra) if not _is_installed(name)]
    if not missing:
        return "ready"
    return f"without {', '.join(missing)}; pip install 'roselora[{extra}]'"


def _packages(extra: str) -> list[str]:
    """The packages that an extra adds on this machine."""
    requirements = map(Requirement, metadata.requires("roselora") or [])
    return sorted({each.name for each in requirements if _is_added(each, extra)})


def _is_added(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
