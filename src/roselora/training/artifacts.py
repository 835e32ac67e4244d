"""The files of a finished run: the adapter as LoRA and as SparseDelta, or the whole model, and the log."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from peft import PeftModel
from transformers import PreTrainedModel

from roselora.adapter.factors import as_matrix, factor_pairs
from roselora.delta.delta_file import save as save_delta
from roselora.delta.layer_kinds import layer_factors, require_own_weight
from roselora.delta.sparse_delta import SparseDelta
from roselora.errors import ConfigError, UnsupportedError
from roselora.files import sha256_file, write_atomically
from roselora.json_text import json_text
from roselora.models.model_saving import save_atomically, write_model
from roselora.training.loreft import save_loreft
from roselora.training.nonfinite import require_finite
from roselora.training.output_folder import DELTA, LOG, METRICS, weights_folder
from roselora.training.prepare import Prepared
from roselora.training.train_settings import TrainSettings

VERSIONS = ("roselora", "torch", "transformers", "peft", "trl")


@dataclass(frozen=True)
class Artifacts:
    """The files of a finished run.

    Attributes:
        folder: the adapter as PEFT (or `training.loreft`) reads it, or the whole model of the method full.
        delta: the file of the adapter as a SparseDelta, or None.
        no_delta: why there is no delta, in one sentence, or None if there is one.
        sha256: the hash of every file with weights, by its name in the output folder.
        bytes: the size of each.
    """

    folder: Path
    delta: Path | None
    no_delta: str | None
    sha256: dict[str, str]
    bytes: dict[str, int]


def save_artifacts(
    prepared: Prepared,
    settings: TrainSettings,
    history: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, float],
    describe: Callable[[Artifacts, Path], None],
) -> Artifacts:
    """Write ``delta.safetensors``, ``log.jsonl`` and ``metrics.json`` into the output folder, and then the weights.

    The folder of the weights appears last and complete: if it exists, the run is finished.

    Args:
        describe: adds files, such as a model card, to the folder of the weights before it gets its final name.

    Raises:
        ModelError: the disk refused the weights or their description.
        NonFiniteError: a parameter holds NaN or infinity.
        OSError: the disk refused one of the other files.
    """
    output, folder = Path(settings.output), weights_folder(settings)
    require_finite(prepared.model.named_parameters(), "after training; nothing is saved")
    delta: Path | None = None
    no_delta: str | None = f"The method {settings.method} makes no sparse update."
    if settings.method == "rose":
        try:
            update = trained_delta(prepared, settings, metrics)
        except UnsupportedError as error:
            no_delta = str(error)
        else:
            delta, no_delta = output / DELTA, None
            save_delta(update, delta)
    write_atomically(output / LOG, "".join(json_text(entry) + "\n" for entry in history).encode())
    write_atomically(output / METRICS, json_text(metrics, indent=2).encode() + b"\n")
    artifacts = Artifacts(folder, delta, no_delta, {}, {})

    def write(staged: Path) -> None:
        nonlocal artifacts
        if settings.method == "loreft":
            save_loreft(cast(PreTrainedModel, prepared.model), staged)
        else:
            write_model(prepared.model, prepared.tokenizer, staged)
        paths = {f"{folder.name}/{path.name}": path for path in sorted(staged.glob("*.safetensors"))}
        if delta is not None:
            paths[DELTA] = delta
        artifacts = replace(
            artifacts,
            sha256={name: sha256_file(path) for name, path in paths.items()},
            bytes={name: path.stat().st_size for name, path in paths.items()},
        )
        describe(artifacts, staged)

    save_atomically(folder, write)
    return artifacts


def trained_delta(prepared: Prepared, settings: TrainSettings, metrics: Mapping[str, float]) -> SparseDelta:
    """The trained factors as a SparseDelta of the base model.

    Raises:
        UnsupportedError: a delta cannot hold the update of a layer, such as a convolution or a tied embedding.
    """
    base = cast(PeftModel, prepared.model).get_base_model()
    weights = []
    for pair in factor_pairs(base, "default"):
        layer = cast(Any, base.get_submodule(pair.name)).get_base_layer()
        require_own_weight(base, pair.name, layer)
        try:
            weights.append(layer_factors(pair.name, layer, as_matrix(pair.a), as_matrix(pair.b), pair.scale))
        except ConfigError as error:  # a quantized weight differs from its update in dtype and shape
            raise UnsupportedError(f"{pair.name} cannot carry a delta ({str(error).rstrip('.')}).") from error
    described = {
        "method": "roselora",
        "config": settings.model_dump(mode="json"),
        "base_fingerprint": prepared.base_fingerprint,
        "versions": {name: metadata.version(name) for name in VERSIONS},
        "metrics": json.loads(json_text(metrics)),  # null for NaN, which a delta refuses
    }
    return SparseDelta(tuple(weights), described)
