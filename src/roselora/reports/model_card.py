"""The model card of a finished training run: everything that is needed to judge it and to repeat it."""

from importlib import metadata
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from roselora.models.loading import DEMO, HUB_ID
from roselora.training.artifacts import VERSIONS
from roselora.training.config_file import as_yaml
from roselora.training.run import Finished

PLOT = "training.png"


def model_card(finished: Finished) -> ModelCard:
    """The card, with the metadata that the hub reads in its head."""
    settings = finished.settings
    data = ModelCardData(
        base_model=settings.model if "/" in settings.model and HUB_ID.fullmatch(settings.model) else None,
        library_name="transformers" if settings.method == "full" else "peft",
        tags=["roselora", settings.method] if settings.method == "rose" else [settings.method],
        pipeline_tag="text-generation" if finished.prepared.examples.labels is None else "text-classification",
    )
    sections = [
        f"---\n{data.to_yaml()}\n---",
        f"# {_short(settings.model)}, fine-tuned by {_METHODS[settings.method]}",
        _facts(finished),
        f"![Loss, schedule, and where the update lies]({PLOT})",
        _use(finished),
        f"## Repeat it\n\nSave this as `config.yaml` and run `roselora train config.yaml`:\n\n"
        f"```yaml\n{as_yaml(settings)}```",
    ]
    return ModelCard("\n\n".join(sections) + "\n")


_METHODS = {
    "rose": "RoseLoRA, a sparse low-rank update",
    "lora": "LoRA",
    "dora": "DoRA",
    "adalora": "AdaLoRA",
    "shira": "SHiRA",
    "ia3": "IA3",
    "prefix": "prefix tuning",
    "full": "full fine-tuning",
}


def _short(model: str) -> str:
    """A folder's or file's own name, without its place on this machine; a hub id as it is."""
    return Path(model).name if Path(model).exists() else model


def _facts(finished: Finished) -> str:
    settings, prepared = finished.settings, finished.prepared
    rows: list[tuple[str, Any]] = [
        ("base", f"`{settings.model}`, SHA-256 of its weights `{prepared.base_fingerprint}`"),
    ]
    for part, source in prepared.examples.sources.items():
        digest = f", SHA-256 `{source['sha256']}`" if "sha256" in source else ""
        rows.append((f"{part} data", f"`{Path(source['source']).name}`, {source['records']} records{digest}"))
    rows += [
        ("method", _METHODS[settings.method]),
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
    rows += [(name.replace("eval_", "held-out "), f"{value:.4f}") for name, value in finished.metrics.items()]
    for name, digest in finished.artifacts.sha256.items():
        rows.append((f"`{name}`", f"{finished.artifacts.bytes[name]:,} bytes, SHA-256 `{digest}`"))
    rows.append(("made with", ", ".join(f"{name} {metadata.version(name)}" for name in VERSIONS)))
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _use(finished: Finished) -> str:
    model = finished.settings.model
    causal = finished.prepared.examples.labels is None
    auto = "AutoModelForCausalLM" if causal else "AutoModelForSequenceClassification"
    if finished.settings.method == "full":
        return (
            f'## Use it\n\n```python\nfrom transformers import {auto}\n\nmodel = {auto}.from_pretrained("model")\n```'
        )
    lines = [
        "## Use it",
        "",
        "An ordinary PEFT adapter: every program that reads LoRA can read it.",
        "",
        "```python",
        "from peft import PeftModel",
        *(
            ["from roselora.models import load", "", 'base = load("demo").model']
            if model == DEMO
            else [f"from transformers import {auto}", "", f'base = {auto}.from_pretrained("{model}")']
        ),
        'model = PeftModel.from_pretrained(base, "adapter")',
        "```",
    ]
    if finished.artifacts.delta is not None:
        lines += [
            "",
            "`delta.safetensors` holds the same update as a SparseDelta, which can be applied to the weights and taken "
            "back bit for bit.",
        ]
    return "\n".join(lines)


def write_card(finished: Finished) -> Path:
    """Put the card into the folder of the adapter or model, in place of the one that PEFT leaves."""
    path = finished.artifacts.folder / "README.md"
    model_card(finished).save(path)
    return path
