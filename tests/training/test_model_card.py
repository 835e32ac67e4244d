"""The model card holds what was measured, repeats the run, and no name can break it."""

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import yaml
from markdown_it import MarkdownIt

from roselora.files import sha256_file
from roselora.training.artifacts import Artifacts
from roselora.training.model_card import CARD, PLOT, model_card, write_card
from roselora.training.train_settings import Method, TrainSettings
from roselora.training.training_run import Finished, train


@pytest.mark.parametrize("method", ["rose", "loreft"])
def test_the_card_holds_what_was_measured_and_repeats_the_run(
    tiny_model_folder: Path, tmp_path: Path, method: str
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"prompt": "one and one make", "completion": " two"}\n' * 4)
    settings = TrainSettings.model_validate(
        {
            "model": str(tiny_model_folder),
            "method": method,
            "output": str(tmp_path / "out"),
            "data": {"train": str(data), "eval": str(data)},
            "training": {"max_steps": 10},
        }
    )
    outcome = train(settings, describe=write_card)
    assert isinstance(outcome, Finished)
    assert (outcome.artifacts.folder / PLOT).read_bytes().startswith(b"\x89PNG")
    card = (outcome.artifacts.folder / CARD).read_text()
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == ("peft" if method == "rose" else "roselora")
    weights = "adapter_model.safetensors" if method == "rose" else "loreft.safetensors"
    for fact in (
        outcome.prepared.base_fingerprint,
        sha256_file(data),
        sha256_file(tmp_path / "out" / "adapter" / weights),
        f"{outcome.metrics['eval_loss']:.4f}",
        "10 in",
    ):
        assert fact in body
    if method == "rose":
        assert outcome.counts is not None
        assert f"{outcome.counts.sparsity:.4%}" in body
        assert f"{outcome.counts.sparsity_bound:.4%}" in body
        assert sha256_file(tmp_path / "out" / "delta.safetensors") in body
    config = body.split("```yaml\n")[1].split("```")[0]
    assert TrainSettings.model_validate(yaml.safe_load(config)) == settings


def outcome_of(method: str, model: str, data: str, output: Path, labels: list[str] | None = None) -> Any:
    """A finished run that was none, as a card reads it."""
    settings = TrainSettings.model_validate(
        {"model": model, "method": method, "output": str(output), "data": {"train": data, "split": data}}
    )
    sources = {"train": {"source": data, "records": 4}}
    prepared = SimpleNamespace(
        base_fingerprint="ab" * 32,
        examples=SimpleNamespace(sources=sources, labels=labels),
        total_steps=10,
        trainable=5,
    )
    artifacts = Artifacts(
        output, None, "Two are one.", {"adapter/a.safetensors": "cd" * 32}, {"adapter/a.safetensors": 3}
    )
    return SimpleNamespace(
        settings=settings,
        prepared=prepared,
        left_out=0,
        seconds=1.0,
        counts=None,
        metrics={"eval_loss": 1.0},
        history=[],
        artifacts=artifacts,
    )


@pytest.mark.parametrize("method", get_args(Method))
def test_every_method_has_a_card_whose_sample_is_python(method: str, tmp_path: Path) -> None:
    card = model_card(outcome_of(method, "demo", "d.jsonl", tmp_path)).content
    sample = card.split("```python\n")[1].split("```")[0]
    ast.parse(sample)
    assert ("load_loreft" in sample) == (method == "loreft")
    assert ("PeftModel" in sample) == (method not in ("loreft", "full"))


@pytest.mark.parametrize(
    "name",
    [
        "a|b",
        "a`b``c",
        "x](http://x.example)",
        "<img src=x>",
        "*a*_b_",
        'quo"te',
        "back\\slash\\",
        "two\nlines",
        "``` ```python",
        "long " * 30 + "```\n# heading",
        '")\nimport os  # ',
        "${x}",
    ],
)
def test_no_name_breaks_the_cards_table_headings_or_samples(name: str, tmp_path: Path) -> None:
    outcome = outcome_of("lora", f"models/{name}", f"data/{name}", tmp_path)
    _, head, body = model_card(outcome).content.split("---\n", 2)
    yaml.safe_load(head)
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    headings = [tokens[n + 1].content for n, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings[1:] == ["Use it", "Repeat it"]
    assert [token.type for token in tokens].count("table_open") == 1
    rows = [token for token in tokens if token.type == "tr_open"]
    cells = [token for token in tokens if token.type in ("td_open", "th_open")]
    assert len(cells) == 2 * len(rows)
    kinds = {child.type for token in tokens for child in token.children or []}
    assert kinds <= {"text", "softbreak", "code_inline", "image"}
    python, config = (token.content for token in tokens if token.type == "fence")
    calls = [node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Call)]
    assert ast.literal_eval(calls[0].args[0]) == f"models/{name}"
    assert TrainSettings.model_validate(yaml.safe_load(config)) == outcome.settings


def test_a_cards_sample_makes_the_head_that_was_trained(tmp_path: Path) -> None:
    card = model_card(outcome_of("lora", "some/model", "d.jsonl", tmp_path, labels=["a", "b", "c"])).content
    assert "AutoModelForSequenceClassification.from_pretrained('some/model', num_labels=3)" in card


def test_a_card_says_why_there_is_no_delta(tmp_path: Path) -> None:
    assert "no SparseDelta of it: Two are one." in model_card(outcome_of("rose", "demo", "d.jsonl", tmp_path)).content


def test_the_card_of_a_classifier_loads_a_packaged_encoder_by_its_name(tmp_path: Path) -> None:
    card = model_card(outcome_of("rose", "minilm", "data", tmp_path, labels=["bad", "good"])).content
    assert "base = load('minilm', head=head_for(['bad', 'good'])).model" in card
    assert "from roselora.models.task_heads import head_for" in card
