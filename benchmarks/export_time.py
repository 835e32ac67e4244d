"""The time to export a merged model, beside that of copying its base's folder to the disk.

    python benchmarks/export_time.py [--model demo] [--runs 5]

Changed are 8 rows of the last MLP, as many as a gated edit changes, by random amounts: nothing is trained. Both ways
flush what they write; exports are read back and compared besides. Medians of runs that take turns.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch

from roselora.delta.layer_kinds import layer_factors
from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta
from roselora.files import flush
from roselora.models.loading import load
from roselora.serving.edit_export import Edited, export_edits
from roselora.serving.merged_folder import base_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    loaded = load(arguments.model)
    base = base_folder(loaded.model.name_or_path)
    if base is None:
        parser.error("name a model that is a folder")
    module = f"model.layers.{loaded.model.config.num_hidden_layers - 1}.mlp.up_proj"
    layer = loaded.model.get_submodule(module)
    torch.manual_seed(0)
    B = torch.zeros(layer.out_features, 8)
    B[:8] = torch.eye(8)
    delta = SparseDelta((layer_factors(module, layer, torch.randn(8, layer.in_features), B, 1.0),))
    overlay = Overlay(loaded.model)
    overlay.apply("edit", delta)
    edited = Edited(loaded.model, loaded.tokenizer, overlay, [delta])
    exports, copies = [], []
    for run in range(arguments.runs):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            export_edits(edited, Path(folder, "export"), "model")
            exports.append(time.perf_counter() - start)
            start = time.perf_counter()
            shutil.copytree(base, Path(folder, "copy"))
            for path in Path(folder, "copy").iterdir():
                flush(path)
            copies.append(time.perf_counter() - start)
            print(f"run {run + 1}: export {exports[-1]:.2f} s, copy {copies[-1]:.2f} s", flush=True)
    size = sum(path.stat().st_size for path in base.iterdir()) / 2**20
    export, copy = statistics.median(exports), statistics.median(copies)
    print(
        f"{size:.0f} MiB, {os.cpu_count()} cores: export {export:.2f} s, copy {copy:.2f} s, ratio {export / copy:.2f}"
    )


if __name__ == "__main__":
    main()
