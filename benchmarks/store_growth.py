"""What committing an edit costs as a store grows: seconds of the 10th, 100th and 1000th commit, and bytes an edit.

    python benchmarks/store_growth.py [--edits 1000] [--model demo] [--json FILE]

Each edit is as large as a gated one, five neurons of an MLP with the request and the provenance that the editor
writes, but nothing is trained: its rows and columns are drawn at random and are small. Reported are medians over the
last nine commits up to each count, with the ratio to the first, and the bytes of the store's folder.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from roselora.editing.edited_model import EditedModel
from roselora.editing.methods.gate.gate_edit import NeuronEdit
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.layer_choice import editable_mlps
from roselora.editing.methods.train_edit import trained_neuron_edit
from roselora.editing.proposal import Proposal
from roselora.editing.request import EditRequest
from roselora.models.loading import load
from roselora.models.mlp_neurons import Neurons

NEURONS, WINDOW, FACTOR = 5, 9, 10


def proposals(edited: EditedModel, mlps: list[Neurons], count: int) -> Iterator[Proposal]:
    """Edits of `NEURONS` neurons each, in one MLP after the other, that change little."""
    settings, draw = GateSettings(), torch.Generator().manual_seed(0)
    width = edited.model.config.hidden_size
    for number in range(count):
        mlp = mlps[number % len(mlps)]
        first = number // len(mlps) * NEURONS
        rows = [1e-3 * torch.randn(NEURONS, width, generator=draw) for _ in range(3)]
        edit = NeuronEdit(
            mlp, [*range(first, first + NEURONS)], rows[0], rows[1], rows[2].T.contiguous(), 15, True, False
        )
        request = EditRequest(f"Where was the {number}th child of the house of Marlow born?", "Turin")
        trained = trained_neuron_edit(edited.model, edited.overlay, edit, settings)
        yield Proposal.of(request, settings, trained, [], [], 1.0)


def size_of(folder: Path) -> int:
    """The bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=1000)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    loaded = load(given.model)
    seconds: list[float] = []
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        edited = EditedModel(loaded, folder, force=False)
        mlps = editable_mlps(loaded.model, GateSettings())
        with edited.writing():
            for proposal in proposals(edited, mlps, given.edits):
                start = time.perf_counter()
                edited.commit(proposal)
                seconds.append(time.perf_counter() - start)
                count = len(seconds)
                if count == FACTOR * max([1, *(row["edits"] for row in rows)]):
                    median = statistics.median(seconds[-WINDOW:])
                    rows.append({"edits": count, "seconds": median, "bytes_an_edit": size_of(Path(folder)) / count})
                    ratio = median / rows[0]["seconds"]
                    print(
                        f"{count:6} edits {median * 1e3:8.1f} ms a commit, {ratio:.2f} times the 10th; "
                        f"{rows[-1]['bytes_an_edit'] / 1e3:.1f} kB an edit",
                        flush=True,
                    )
    if given.json:
        given.json.write_text(json.dumps({"model": given.model, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
