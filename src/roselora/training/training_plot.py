"""One plot of a finished run: loss, density, and where in the network the changed entries are."""

import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from roselora.adapter.density_check import AdapterCounts, MatrixCounts
from roselora.adapter.tracking import adapters_within
from roselora.files import write_atomically
from roselora.training.prepare import Prepared
from roselora.training.training_run import Finished

_LAYER = re.compile(r"\.(\d+)\.")


def plot_training(finished: Finished, path: Path) -> None:
    """Write a PNG with loss and density by step, and the fraction of changed entries by layer and module.

    Raises:
        OSError: it cannot be written.
    """
    counts = finished.counts
    figure = Figure(figsize=(11, 4.2) if counts else (6, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2 if counts else 1, squeeze=False)[0]
    _plot_loss(axes[0], finished.history)
    if counts is not None:
        _plot_density(axes[0].twinx(), finished.prepared)
        _plot_entries(figure, axes[1], counts)
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    write_atomically(path, picture.getvalue())


def _plot_loss(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    for name, label in (("loss", "training loss"), ("eval_loss", "validation loss")):
        points = [(entry["step"], entry[name]) for entry in history if name in entry]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker="o" if len(points) < 3 else None)
    axes.set(xlabel="optimizer step", ylabel="loss, nats", title="Loss and schedule")
    axes.legend(loc="upper right")


def _plot_density(axes: Axes, prepared: Prepared) -> None:
    ((_, adapter),) = adapters_within(prepared.model)
    steps = range(1, prepared.total_steps + 1)
    density = [adapter.density_at(step) for step in steps]
    axes.plot(steps, density, color="tab:green", linestyle="--")
    axes.set(ylim=(0, 1.03))
    axes.set_ylabel("density", color="tab:green")


def entry_shares(matrices: Sequence[MatrixCounts]) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Layers, modules, and the fraction of changed entries, of shape (layers, modules); NaN where nothing is adapted.

    The layer is the first number in a matrix's name; matrices outside the layers are in the row "-".
    """
    places = [(_layer(matrix.name), matrix.name.rpartition(".")[2]) for matrix in matrices]
    layers = sorted({layer for layer, _ in places}, key=lambda layer: (layer == "-", int(layer) if layer != "-" else 0))
    modules = sorted({module for _, module in places})
    changed, entries = np.zeros((2, len(layers), len(modules)))
    for (layer, module), matrix in zip(places, matrices, strict=True):
        place = layers.index(layer), modules.index(module)
        changed[place] += matrix.update_nonzeros
        entries[place] += matrix.entries
    return layers, modules, np.divide(changed, entries, out=np.full_like(changed, np.nan), where=entries > 0)


def _layer(name: str) -> str:
    found = _LAYER.search(f".{name}.")
    return found[1] if found else "-"


def _plot_entries(figure: Figure, axes: Axes, counts: AdapterCounts) -> None:
    layers, modules, shares = entry_shares(counts.matrices)
    image = axes.imshow(shares * 100, aspect="auto", origin="lower", cmap="viridis")
    figure.colorbar(image, ax=axes, label="entries changed, %")
    axes.set_xticks(range(len(modules)), modules, rotation=30, ha="right")
    every = max(1, len(layers) // 12)
    axes.set_yticks(range(0, len(layers), every), layers[::every])
    axes.set(ylabel="layer", title=f"Where the update lies ({1 - counts.sparsity:.2%} of the adapted entries)")
