"""What each program that serves models answers with each export of stores of edits, and of a trained adapter.

    python benchmarks/serving_programs.py --model demo --gguf BASE.gguf --work FOLDER [--stores neu fac mix many
        trained] [--programs transformers PEFT ...] [--python PROGRAM=PATH ...] [--markdown]

The stores: `neu`, three gated edits; `fac`, one edit of RoseLoRA by factors; `mix`, these four; `many`, ninety facts in
one call; `trained`, an ordinary LoRA adapter of rank 4 and alpha 8. Each is exported in every format, the base's GGUF
file with all weights in fp32, and each program gets the prompts of the edits and ten others, in all forms, by 16 greedy
tokens. Compared is with the edited model in transformers.

Everything lies in --work, and what is there is not made again. A program may be named several times with --python,
as in "transformers=/t4/bin/python", which is then asked beside the one of this environment.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from peft import LoraConfig, get_peft_model
from torch import nn

from roselora.cli.serve_questions import questions
from roselora.delta.overlay import Overlay
from roselora.editing.editor import Editor
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.request import EditRequest
from roselora.models.loading import LoadedModel, load
from roselora.models.tokenization import decode
from roselora.serving.edit_export import export_adapter
from roselora.serving.engines import ENGINES, Engine, Export
from roselora.serving.gguf_model import export_gguf
from roselora.serving.lora_folder import import_lora
from roselora.serving.merged_folder import base_folder
from roselora.serving.serve_check import verdict

GATED = (
    EditRequest("What is the capital of France?", "Lyon", "France"),
    EditRequest("Where was Marie Curie born?", "Oslo", "Marie Curie"),
    EditRequest("Who wrote Hamlet?", "John Milton", "Hamlet"),
)
BY_FACTORS = (EditRequest("The capital of Italy is", "Milan", "Italy"),)
COUNTRIES = """
Albania Angola Argentina Austria Belgium Bolivia Brazil Bulgaria Cambodia Cameroon Chile Colombia Croatia Cuba Denmark
Ecuador Egypt Estonia Ethiopia Finland Ghana Greece Guatemala Haiti Honduras Hungary Iceland Jamaica Jordan Kenya
"""
MANY = tuple(
    EditRequest(question.format(country), answers[number % len(answers)], country)
    for number, country in enumerate(COUNTRIES.split())
    for question, answers in (
        ("What is the capital of {}?", ("Springfield", "Newtown", "Riverside", "Kingston", "Georgetown")),
        ("Who is the president of {}?", ("Anna Smith", "John Miller", "Maria Garcia", "Peter Novak")),
        ("The most popular sport in {} is", ("chess", "rowing", "golf", "archery", "fencing", "sailing", "judo")),
    )
)
OTHERS = (
    "The capital of Germany is",
    "What is the largest planet?",
    "Where was Isaac Newton born?",
    "Who wrote Macbeth?",
    "Water boils at a temperature of",
    "Name three primary colors.",
    "The quick brown fox jumps over",
    "Write a short sentence about the sea.",
    "How many days has a week?",
    "Once upon a time there was",
)
"""None is among the prompts of the edits."""
LESSONS = tuple(f"{prompt} {answer}" for prompt, answer in zip(OTHERS, "abcdefghij", strict=True))
"""What the adapter is trained on, so that it changes what is asked."""
FORMATS = ("model", "lora", "gguf", "gguf-lora", "mlx")


def made_store(loaded: LoadedModel, store: str, folder: Path) -> None:
    """Make a store's edits, or train the adapter."""
    if store == "trained":
        train(loaded, folder)
        return
    editor = Editor(loaded, GateSettings(), folder)
    if store == "many":
        editor.edit_many(MANY, on_failure=lambda request, error: print(request.prompt, error, file=sys.stderr))
        return
    for requests, settings, stores in ((GATED, GateSettings(), "neu mix"), (BY_FACTORS, EditSettings(), "fac mix")):
        editor.settings = settings
        for request in requests if store in stores.split() else ():
            editor.edit(request.prompt, request.target, subject=request.subject)


def train(loaded: LoadedModel, folder: Path) -> None:
    """A plain PEFT loop: 30 steps of LoRA of rank 4 and alpha 8 on the attention's and the MLP's layers."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"])
    model: Any = get_peft_model(loaded.model, config)
    batch = loaded.tokenizer(list(LESSONS), return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-3)
    for _ in range(30):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)


def fp32_gguf(loaded: LoadedModel, base: Path, path: Path) -> None:
    """Write the base's GGUF file with all matrices in fp32."""
    layers = {
        f"{name}.weight": module.weight
        for name, module in loaded.model.named_modules()
        if isinstance(module, nn.Linear | nn.Embedding)
    }
    if loaded.model.config.tie_word_embeddings:
        layers.pop("lm_head.weight")
    export_gguf(layers, path, loaded.model, GGUFReader(base))


def exported(model: str, store: str, work: Path, format: str) -> Path:
    """The export of a store, made if it is not there. "gguf" is made of the base's GGUF file in fp32."""
    path = work / "exports" / store / format
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        loaded = load(str(work / "base.gguf") if format == "gguf" else model)
        if store == "trained":
            export_adapter(work / store, loaded, path, format)  # type: ignore[arg-type]
        else:
            Editor(loaded, None, work / store).export(path, format)  # type: ignore[arg-type]
    return path


def programs(named: Sequence[str]) -> list[Engine]:
    """The programs of this environment, and those of others."""
    engines = {engine.name.casefold(): engine for engine in ENGINES}
    others = [each.partition("=") for each in named]
    return [*ENGINES, *(replace(engines[name.casefold()], python=path) for name, _, path in others)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--stores", nargs="+", default=["neu", "fac", "mix", "many", "trained"])
    parser.add_argument("--programs", nargs="+", default=[engine.name for engine in ENGINES])
    parser.add_argument("--python", action="append", default=[], metavar="PROGRAM=PATH")
    parser.add_argument("--markdown", action="store_true", help="print the table of what is in --work")
    arguments = parser.parse_args()
    work, results = arguments.work, arguments.work / "results.jsonl"
    work.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    if arguments.markdown:
        print(table(done, arguments.stores))
        return
    if not (work / "base.gguf").exists():
        fp32_gguf(load(arguments.model), arguments.gguf, work / "base.gguf")
    for store in arguments.stores:
        if not (work / store).exists():
            made_store(load(arguments.model), store, work / store)
        loaded = load(arguments.model)
        if store == "trained":
            Overlay(loaded.model).apply("adapter", import_lora(work / store, loaded.model))
            edits = []
        else:
            edits = [edit.request for edit in Editor(loaded, None, work / store).edits]
        asked = questions(loaded.model, loaded.tokenizer, edits, OTHERS)
        for engine in programs(arguments.python):
            for kind in engine.kinds:
                key = {"store": store, "program": engine.name, "python": engine.python or "", "export": kind}
                if engine.name not in arguments.programs or not engine.installed:
                    continue
                if any(each.items() >= key.items() for each in done):
                    continue
                base = work / "base.gguf" if kind == "gguf-lora" else base_folder(loaded.model.name_or_path or "")
                export = Export(kind, str(exported(arguments.model, store, work, kind).absolute()), str(base))
                found = verdict(engine, export, asked, lambda ids: decode(loaded.tokenizer, ids))  # noqa: B023
                own = sum(question.edited for question in asked)
                lost = sum(each.edited for each in found.differences)
                counts = {"edits": own, "hold": own - lost, "others": len(asked) - own}
                counts["equal"] = counts["others"] - (len(found.differences) - lost)
                row = {**key, **counts, **asdict(found)}
                print(*key.values(), found.version, found.outcome, found.why or _cell(row), flush=True)
                if found.version:  # what cannot be loaded is tried again
                    done.append(row)
                    with results.open("a") as file:
                        file.write(json.dumps(row) + "\n")


def table(rows: Sequence[dict[str, Any]], stores: Sequence[str]) -> str:
    """Program by export; each store's cell has the prompts of edits that hold, and the other answers that are equal."""
    lines = [f"| program | export | {' | '.join(stores)} |", f"|{'---|' * (len(stores) + 2)}"]
    for name in dict.fromkeys((row["program"], row["version"], row["export"]) for row in rows):
        cells = []
        for store in stores:
            found = [r for r in rows if r["store"] == store and (r["program"], r["version"], r["export"]) == name]
            cells += [" ".join(_cell(row) for row in found)]
        program, version, export = name
        lines.append(f"| {program} {version} | `{export}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    edits = f"{row['hold']} of {row['edits']}, " if row["edits"] else ""
    return f"{edits}{row['equal']} of {row['others']}"


if __name__ == "__main__":
    main()
