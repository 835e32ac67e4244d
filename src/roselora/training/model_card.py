"""The model card of a finished run: everything that is needed to judge and to repeat it."""

from importlib import metadata
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from roselora.files import write_atomically
from roselora.markdown import block, code, text
from roselora.models.encoder_models import ENCODERS
from roselora.models.loading import DEMO, HUB_ID
from roselora.training.artifacts import VERSIONS
from roselora.training.config_file import as_yaml
from roselora.training.training_plot import plot_training
from roselora.training.training_run import Finished

CARD, PLOT = "README.md", "training.png"


def model_card(finished: Finished) -> ModelCard:
    """The card, which begins with the metadata that the hub reads."""
    settings = finished.settings
    data = ModelCardData(
        base_model=settings.model if "/" in settings.model and HUB_ID.fullmatch(settings.model) else None,
        library_name={"full": "transformers", "loreft": "roselora"}.get(settings.method, "peft"),
        tags=["roselora", settings.method] if settings.method == "rose" else [settings.method],
        pipeline_tag="text-generation" if finished.prepared.examples.labels is None else "text-classification",
    )
    sections = [
        f"---\n{data.to_yaml()}\n---",
        f"# {text(_short(settings.model))}, fine-tuned by {METHODS[settings.method]}",
        _facts(finished),
        f"![Loss, schedule, and where the update lies]({PLOT})",
        _use(finished),
        "## Repeat it\n\nSave this as `config.yaml` and run `roselora train config.yaml`:",
        block(as_yaml(settings), "yaml"),
    ]
    return ModelCard("\n\n".join(sections) + "\n")


METHODS = {
    "rose": "RoseLoRA, a sparse low-rank update",
    "lora": "LoRA",
    "dora": "DoRA",
    "adalora": "AdaLoRA",
    "shira": "SHiRA",
    "ia3": "IA3",
    "prefix": "prefix tuning",
    "loreft": "LoReFT, which changes states and no weights",
    "full": "full fine-tuning",
}


def _short(model: str) -> str:
    """The last part of a path, since the rest is of this machine only; a hub id as it is."""
    return Path(model).name if Path(model).exists() else model


def _facts(finished: Finished) -> str:
    settings, prepared = finished.settings, finished.prepared
    rows: list[tuple[str, Any]] = [
        ("base", f"{code(settings.model)}, SHA-256 of its weights `{prepared.base_fingerprint}`"),
    ]
    for part, source in prepared.examples.sources.items():
        digest = f", SHA-256 `{source['sha256']}`" if "sha256" in source else ""
        rows.append((f"{part} data", f"{code(Path(source['source']).name)}, {source['records']} records{digest}"))
    rows += [
        ("method", METHODS[settings.method]),
        ("examples left out as too long", finished.left_out),
        ("steps", f"{prepared.total_steps} in {finished.seconds:.0f} s, seed {settings.training.seed}"),
        ("trained parameters", f"{prepared.trainable:,}"),
    ]
    if (counts := finished.counts) is not None:
        rows += [
            ("density", f"{counts.density} of every row of A and column of B, counted"),
            ("entries changed", f"{counts.update_nonzeros:,} of {counts.entries:,} in {len(counts.matrices)} matrices"),
            (
                "sparsity of the update",
                f"{counts.sparsity:.4%} measured; Proposition 1: at least {counts.sparsity_bound:.4%}",
            ),
        ]
    rows += [(name.replace("eval_", "validation "), f"{value:.4f}") for name, value in finished.metrics.items()]
    for name, digest in finished.artifacts.sha256.items():
        rows.append((f"`{name}`", f"{finished.artifacts.bytes[name]:,} bytes, SHA-256 `{digest}`"))
    rows.append(("made with", ", ".join(f"{name} {metadata.version(name)}" for name in VERSIONS)))
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _use(finished: Finished) -> str:
    """How to load the result, with code that runs in the output folder."""
    method, labels, model = finished.settings.method, finished.prepared.examples.labels, finished.settings.model
    auto = "AutoModelForCausalLM" if labels is None else "AutoModelForSequenceClassification"
    if method == "full":
        sample = [f"from transformers import {auto}", "", f'model = {auto}.from_pretrained("model")']
        return "\n\n".join(["## Use it", block("\n".join(sample), "python")])
    if model == DEMO:
        base = ["from roselora.models import load", "", 'base = load("demo").model']
    elif model in ENCODERS:
        base = [
            "from roselora.models import load",
            "from roselora.models.task_heads import head_for",
            "",
            f"base = load({model!r}, head=head_for({list(labels or ())!r})).model",
        ]
    else:
        classes = "" if labels is None else f", num_labels={max(1, len(labels))}"
        # A folder's name may hold anything, so it is written with Python's own escapes.
        base = [f"from transformers import {auto}", "", f"base = {auto}.from_pretrained({model!r}{classes})"]
    if method == "loreft":
        words = "Interventions on a model's states, which roselora loads."
        imports = ["from pathlib import Path", "", "from roselora.training.loreft import load_loreft"]
        last = 'model = load_loreft(base, Path("adapter"))'
    else:
        readers = "; every program that reads LoRA can read it" if method in ("rose", "lora") else ""
        words = f"An ordinary PEFT adapter{readers}."
        imports, last = ["from peft import PeftModel"], 'model = PeftModel.from_pretrained(base, "adapter")'
    sections = ["## Use it", words, block("\n".join([*imports, *base, last]), "python")]
    if finished.artifacts.delta is not None:
        sections.append(
            "`delta.safetensors` holds the same update as a SparseDelta, which can be applied to the weights and "
            "removed bit for bit."
        )
    elif method == "rose":
        sections.append(f"There is no SparseDelta of it: {text(finished.artifacts.no_delta)}")
    return "\n\n".join(sections)


def write_card(finished: Finished, folder: Path) -> None:
    """Write the card and its plot into the folder of the adapter or model; it replaces PEFT's empty card.

    Raises:
        OSError: they cannot be written.
    """
    plot_training(finished, folder / PLOT)
    write_atomically(folder / CARD, str(model_card(finished)).encode())
