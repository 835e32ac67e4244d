"""What a store costs as it grows: seconds of the 10th, 100th and 1000th commit, bytes an edit, and seconds of a check.

    python benchmarks/store_growth.py [--edits 1000] [--model demo] [--json FILE]

Each edit is as large as a gated one, five neurons of an MLP with the request and the provenance that the editor
writes, but nothing is trained: it makes the neurons' rows and columns a hundredth larger. Reported are medians over
the last nine commits up to each count, with the ratio to the first, and the bytes of the store's folder. At the end all
are checked as `roselora check` does. Each target is what the model answers anyway, so that the edits hold, but that of
one edit in BROKEN: for those the check searches what broke them.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from roselora.editing.edit_answers import SHOWN_TOKENS
from roselora.editing.edit_check import check_edits
from roselora.editing.edited_model import EditedModel
from roselora.editing.methods.gate.gate_edit import NeuronEdit
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.layer_choice import editable_mlps
from roselora.editing.methods.train_edit import trained_neuron_edit
from roselora.editing.proposal import Proposal
from roselora.editing.request import EditRequest
from roselora.models.generation import limited_answers
from roselora.models.loading import LoadedModel, load
from roselora.models.mlp_neurons import Neurons, weight_matrix

NEURONS, LARGER, WINDOW, FACTOR = 5, 1.01, 9, 10
BROKEN = 14
"""One edit in so many does not hold, as in the stream of 1000 facts on the demo model."""


def requests_of(loaded: LoadedModel, count: int) -> list[EditRequest]:
    """Requests, of which all but one in `BROKEN` ask for what the model answers anyway."""
    prompts = [f"Question: In which country is town {number}?\nAnswer:" for number in range(count)]
    answers = limited_answers(loaded.model, loaded.tokenizer, prompts, [SHOWN_TOKENS] * count)
    targets = [said.text if said.ended and number % BROKEN else "Turin" for number, said in enumerate(answers)]
    return [EditRequest(prompt, target, form="bare") for prompt, target in zip(prompts, targets, strict=True)]


def proposals(edited: EditedModel, mlps: list[Neurons], requests: Sequence[EditRequest]) -> Iterator[Proposal]:
    """Edits of `NEURONS` neurons each, in one MLP after the other, that change little."""
    settings = GateSettings()
    for number, request in enumerate(requests):
        mlp = mlps[number % len(mlps)]
        first = number // len(mlps) * NEURONS
        taken = slice(first, first + NEURONS)
        gate, up = (
            None if reader is None else weight_matrix(edited.model.get_submodule(reader.layer))[reader.offset :][taken]
            for reader in (mlp.gate, mlp.up)
        )
        columns = weight_matrix(edited.model.get_submodule(mlp.writer))[:, taken]
        larger = [None if each is None else each.float() * LARGER for each in (gate, up, columns)]
        edit = NeuronEdit(mlp, [*range(first, first + NEURONS)], *larger, 15, True, False)
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
    requests = requests_of(loaded, given.edits)
    seconds: list[float] = []
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        edited = EditedModel(loaded, folder, force=False)
        mlps = editable_mlps(loaded.model, GateSettings())
        with edited.writing():
            for proposal in proposals(edited, mlps, requests):
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
            active = [(edit, edited.store.delta_of(edit)) for edit in edited.store.active()]
            start = time.perf_counter()
            report = check_edits(edited, active)
            check = time.perf_counter() - start
            held = sum(edit.holds for edit in report.edits)
            print(f"{len(active):6} edits {check:8.0f} s to check them; {held} hold; {torch.get_num_threads()} threads")
    if given.json:
        given.json.write_text(json.dumps({"model": given.model, "rows": rows, "check_seconds": check}, indent=1) + "\n")


if __name__ == "__main__":
    main()
