"""Settings of RoseLoRA's edits, each changed by itself, on development records.

    python benchmarks/rose_study.py --data-dir DATA [--model MODEL] [--n 20] [--variants NAMES] [--json FILE]

Single edits of MEND's ZsRE records whose prompt is in no file that results are reported on. What is measured is never
trained on: the prompt behind a sentence of small talk, the record's rephrasing, the nearest question (of another
subject, with most words shared), questions about the same subject, each bare and in chat, and other texts. The model's
own answers are 16 greedy tokens of the unedited model, and an edited one keeps them if it prefers each.
"""

import argparse
import functools
import json
import os
import random
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from torch.nn import functional

from roselora.bench.tasks.added_questions import with_added_questions
from roselora.bench.tasks.edit_case import NEAREST, SAME_SUBJECT, EditCase, deduplicate
from roselora.bench.tasks.edit_datasets import read_cases
from roselora.delta.overlay import Overlay
from roselora.editing.forms import asked_texts
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.layer_choice import editable_mlps
from roselora.editing.methods.gate.reference_statistics import reference_statistics
from roselora.editing.methods.previous_edits import PreviousEdits
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.token_batches import prompt_and_answer
from roselora.editing.methods.train_edit import Settings, train_edit
from roselora.errors import EditError
from roselora.models.generation import greedy_tokens
from roselora.models.loading import LoadedModel, load
from roselora.models.teacher_forcing import TeacherForced, TeacherForcedRow, teacher_forced
from roselora.models.tokenization import encode

MEASURED_ON = ("zsre", "wikidata_counterfact", "wikidata_recent", "zsre_stream", "counterfact_stream")

TEXTS = (
    "The cat sat on the warm stone wall and watched the birds.",
    "What is the boiling point of water?",
    "Shakespeare wrote Hamlet around the year 1600.",
    "My sister works in a bakery near the old bridge.",
)

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "threshold .4": {"threshold": 0.4, "full": 0.55},
    "threshold .6": {"threshold": 0.6, "full": 0.75},
    "density .1": {"density": 0.1},
    "density .5": {"density": 0.5},
    "density 1": {"density": 1.0},
    "ridge .1": {"ridge": 0.1},
    "ridge 1": {"ridge": 1.0},
    "ramp 20": {"ramp": 20},
}
GATE = "gate"
"""A variant that is not RoseLoRA: gated neurons, to compare with."""


def unmeasured(name: str, data_dir: Path) -> list[EditCase]:
    """The records of a set whose prompt is in no file that results are measured on."""
    known = deduplicate(read_cases(name, data_dir).cases).cases
    return [case for case in known if case.prompt not in measured(data_dir)]


@functools.cache
def measured(data_dir: Path) -> frozenset[str]:
    """The prompts of the files that results are measured on."""
    return frozenset(case.prompt for name in MEASURED_ON for case in read_cases(name, data_dir).cases)


def cases(data_dir: Path, n: int) -> Sequence[EditCase]:
    """Records with a subject, and the questions that are added to each."""
    known = [case for case in unmeasured("zsre_mend", data_dir) if case.subject and case.subject in case.prompt]
    random.Random(1).shuffle(known)
    return with_added_questions(known[:n], known)


@dataclass(frozen=True)
class Probe:
    """A text and the tokens that are wanted after it; ``kept`` if they are the unedited model's own."""

    kind: str
    ids: list[int]
    wanted: list[int]
    kept: bool


def probes(loaded: LoadedModel, case: EditCase) -> list[Probe]:
    """What one edit is measured on."""
    model, tokenizer = loaded.model, loaded.tokenizer

    def forms(kind: str, text: str) -> list[tuple[str, str]]:
        return [(f"{kind}, {asked.form}", asked.text) for asked in asked_texts(tokenizer, text, "both")[:2]]

    changed = {"prompt": [case.prompt], "behind": [case.behind_sentence or ""], "reworded": case.rephrasings}
    found = [
        Probe(kind, *prompt_and_answer(tokenizer, text, case.target), False)
        for name, texts in changed.items()
        for each in texts
        for kind, text in forms(name, each)
    ]
    kept = [
        asked
        for name, subtype in (("nearest", NEAREST), ("same", SAME_SUBJECT))
        for probe in case.locality.get(subtype, ())
        for asked in forms(name, probe.prompt)
    ]
    answers = greedy_tokens(model, tokenizer, [text for _, text in kept], max_new_tokens=16)
    found += [Probe(kind, encode(tokenizer, text), ids, True) for (kind, text), ids in zip(kept, answers, strict=True)]
    return [*found, *(Probe("text", encode(tokenizer, text), [], True) for text in TEXTS)]


def predictions(loaded: LoadedModel, asked: Sequence[Probe]) -> list[TeacherForced]:
    """What the model predicts after each probe's text and along the wanted tokens."""
    rows = [TeacherForcedRow(probe.ids + probe.wanted[:-1], len(probe.ids) - 1) for probe in asked]
    return [found for _, found in sorted(teacher_forced(loaded.model, rows), key=lambda pair: pair[0])]


def score(
    asked: Sequence[Probe], before: Sequence[TeacherForced], after: Sequence[TeacherForced]
) -> dict[str, list[float]]:
    """Whether each probe is answered as wanted, and the KL divergence after those that are to be kept, by kind."""
    found: dict[str, list[float]] = {}
    for probe, old, new in zip(asked, before, after, strict=True):
        if probe.wanted or probe.kept:
            found.setdefault(probe.kind, []).append(float(new.tokens == (old.tokens if probe.kept else probe.wanted)))
        if probe.kept:
            divergence = functional.kl_div(
                new.log_probabilities(), old.log_probabilities(), log_target=True, reduction="sum"
            )
            found.setdefault(f"KL, {probe.kind.partition(',')[0]}", []).append(float(divergence))
    return found


def edit(loaded: LoadedModel, case: EditCase, settings: Settings) -> dict[str, list[float]]:
    """The scores of one edit, which is taken back afterwards, with its cost."""
    model, tokenizer, overlay = loaded.model, loaded.tokenizer, Overlay(loaded.model)
    asked = probes(loaded, case)
    before, start = predictions(loaded, asked), time.perf_counter()
    try:
        made = train_edit(model, tokenizer, overlay, case.request, settings, PreviousEdits())
    except EditError:
        return {"made": [0.0]}
    seconds = time.perf_counter() - start
    overlay.apply("edit", made.delta)
    scores = score(asked, before, predictions(loaded, asked))
    overlay.remove("edit")
    cost = {"steps": made.steps, "seconds": seconds, "entries": made.about["update"]["entries_changed"]}
    return {"made": [1.0], **scores, **{name: [float(value)] for name, value in cost.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("ROSELORA_DATA_DIR"))
    parser.add_argument("--model", default="demo")
    parser.add_argument("--n", type=int, default=20)
    parser.add_argument("--variants", default="; ".join([*VARIANTS, GATE]), help="names with semicolons between")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.data_dir is None:
        parser.error("give --data-dir, or set ROSELORA_DATA_DIR")
    chosen, loaded = cases(Path(arguments.data_dir), arguments.n), load(arguments.model)
    blocks = [mlp.block for mlp in editable_mlps(loaded.model, EditSettings())]
    reference_statistics(loaded.model, loaded.tokenizer, blocks)  # once a model, and no edit's time
    table: dict[str, dict[str, float]] = {}
    for name in filter(None, map(str.strip, arguments.variants.split(";"))):
        settings = GateSettings() if name == GATE else replace(EditSettings(), **VARIANTS[name])
        records: dict[str, list[float]] = {}
        for case in chosen:
            for kind, values in edit(loaded, case, settings).items():
                records.setdefault(kind, []).append(mean(values))
        table[name] = {kind: mean(values) for kind, values in records.items()}
        cells = ", ".join(f"{kind} {value:.3g}" for kind, value in table[name].items())
        print(f"{name} (n {len(chosen)}): {cells}", flush=True)
    print(f"largest memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    if arguments.json:
        document = {"model": arguments.model, "cases": [case.key for case in chosen], "variants": table}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
