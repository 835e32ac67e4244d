"""One plot of a finished run: loss, density, and where in the network the changed entries are."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from roselora.adapter.density_check import AdapterCounts, MatrixCounts
from roselora.adapter.tracking import adapters_within
from roselora.files import write_atomically
from roselora.training.plotting import GREY, LOOKS, TEXT, explain, headline, new_figure, png, with_grid
from roselora.training.training_run import Finished

FEW = 30
"""Up to so many points of a line are marked."""

LOSSES = (("loss", "training loss"), ("eval_loss", "validation loss"))
"""By their names in the history."""

_LAYER = re.compile(r"\.(\d+)\.")


def plot_training(finished: Finished, path: Path) -> None:
    """Write a PNG with loss and density by step, and the fraction of changed entries by module and layer.

    Raises:
        OSError: it cannot be written.
    """
    counts, prepared = finished.counts, finished.prepared
    density: list[float] = []
    if counts is not None:
        ((_, adapter),) = adapters_within(prepared.model)
        density = [adapter.density_at(step) for step in range(1, prepared.total_steps + 1)]
    write_atomically(path, png(training_figure(finished.history, density, counts)))


def training_figure(
    history: Sequence[Mapping[str, Any]], density: Sequence[float], counts: AdapterCounts | None
) -> Figure:
    """Panels one below the other: the loss, and of a run with counts its density by step and its changed entries."""
    if counts is None:
        figure = new_figure(3.4)
        loss = figure.subplots()
    else:
        layers, modules, shares = entry_shares(counts.matrices)
        heights = [2.2, 1.2, 1.0 + 0.3 * len(modules)]
        figure = new_figure(1.6 + sum(heights))
        loss, schedule, entries = figure.subplots(3, 1, height_ratios=heights)
        with_grid(schedule).plot(range(1, len(density) + 1), density, color=GREY)
        schedule.set(ylim=(0, 1.05), xlabel="optimizer step", ylabel="density")
        _plot_entries(figure, entries, layers, modules, shares)
        entries.set_title(f"entries changed: {1 - counts.sparsity:.2%} of the adapted ones", loc="left", fontsize=TEXT)
    _plot_loss(with_grid(loss), history)
    headline(figure, "Training")
    explain(figure, "", loss)
    return figure


def _plot_loss(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    for look, (name, label) in zip(LOOKS, LOSSES, strict=True):
        points = [(entry["step"], entry[name]) for entry in history if name in entry]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, **look, markevery=max(1, len(points) // FEW))
    axes.set(xlabel="optimizer step", ylabel="loss, nats")


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


def _plot_entries(
    figure: Figure, axes: Axes, layers: Sequence[str], modules: Sequence[str], shares: NDArray[np.float64]
) -> None:
    """A row per module, a column per layer, the darker the more; hatched where nothing is adapted."""
    axes.patch.set(hatch="////", edgecolor="#999999")
    image = axes.imshow(shares.T * 100, aspect="auto", cmap="Greys", vmin=0)
    figure.colorbar(image, ax=axes, label="%")
    axes.set_yticks(range(len(modules)), modules)
    every = max(1, len(layers) // 8)
    axes.set_xticks(range(0, len(layers), every), layers[::every])
    axes.set_xlabel("layer")
