"""Settings of RoseLoRA's edits, each changed by itself, on development records.

    python benchmarks/rose_study.py --data-dir DATA [--model MODEL] [--n 20] [--variants NAMES] [--json FILE]

Single edits of MEND's ZsRE records whose prompt is in no file that results are reported on. What is measured is never
trained on: the prompt in chat behind another system prompt and behind another sentence, the record's rephrasing, the
nearest question (of another subject, with most words shared), natural questions about the same subject, and texts.
The model's own answers are 16 greedy tokens of the unedited model, and an edited one keeps them if it prefers each.
"""

import argparse
import functools
import json
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch.nn import functional

from roselora.bench.tasks.edit_case import EditCase, deduplicate
from roselora.bench.tasks.edit_datasets import read_cases
from roselora.delta.overlay import Overlay
from roselora.editing.methods.gate.prompt_subjects import content_words
from roselora.editing.methods.rose.factor_training import train_factors
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.token_batches import prompt_and_answer
from roselora.editing.methods.train_edit import factors_delta
from roselora.models.generation import greedy_tokens
from roselora.models.loading import LoadedModel, load
from roselora.models.partial_logits import logits_of
from roselora.models.token_tree import TokenTree
from roselora.models.tokenization import encode

MEASURED_ON = ("zsre", "wikidata_counterfact", "wikidata_recent", "zsre_stream", "counterfact_stream")

SENTENCE = "The weather is lovely today, so I went for a walk. "
SYSTEM = "You are a careful librarian who answers briefly."
QUESTIONS = ("Where was {} born?", "What is {} best known for?", "Who founded {}?", "How old is {}?")
TEXTS = (
    "The cat sat on the warm stone wall and watched the birds.",
    "What is the boiling point of water?",
    "Shakespeare wrote Hamlet around the year 1600.",
    "My sister works in a bakery near the old bridge.",
)

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "KL weight 0": {"keep_weight": 0.0},
    "KL weight 1": {"keep_weight": 1.0},
    "KL weight 10": {"keep_weight": 10.0},
    "density .1": {"density": 0.1},
    "density .05": {"density": 0.05},
    "rank 8": {"rank": 8, "alpha": 8},
    "depth .4": {"depth": 0.4},
    "depth .8": {"depth": 0.8},
    "learning rate .05": {"learning_rate": 0.05},
}


def unmeasured(name: str, data_dir: Path) -> list[EditCase]:
    """The records of a set whose prompt is in no file that results are measured on."""
    known = deduplicate(read_cases(name, data_dir).cases).cases
    return [case for case in known if case.prompt not in measured(data_dir)]


@functools.cache
def measured(data_dir: Path) -> frozenset[str]:
    """The prompts of the files that results are measured on."""
    return frozenset(case.prompt for name in MEASURED_ON for case in read_cases(name, data_dir).cases)


def cases(data_dir: Path, n: int) -> list[tuple[EditCase, str]]:
    """Records with a subject and a rephrasing, each with its nearest question."""
    known = [case for case in unmeasured("zsre_mend", data_dir) if case.subject and case.subject in case.prompt]
    chosen = random.Random(0).sample([case for case in known if case.rephrasings], n)
    return [(case, nearest(case, known)) for case in chosen]


def nearest(case: EditCase, known: Sequence[EditCase]) -> str:
    """The prompt about another subject that shares most words with this one's."""
    asked = content_words(case.prompt)

    def shared(other: EditCase) -> float:
        words = content_words(other.prompt)
        return len(asked & words) / len(asked | words)

    return max((other for other in known if other.subject != case.subject), key=shared).prompt


@dataclass(frozen=True)
class Probe:
    """A text and the tokens that are wanted after it; ``kept`` if they are the unedited model's own."""

    kind: str
    ids: list[int]
    wanted: list[int]
    kept: bool


def probes(loaded: LoadedModel, case: EditCase, near: str) -> list[Probe]:
    """What one edit is measured on."""
    model, tokenizer = loaded.model, loaded.tokenizer

    def chat(text: str, system: str | None = None) -> str:
        before = [{"role": "system", "content": system}] if system else []
        messages = [*before, {"role": "user", "content": text}]
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    asked = {
        "prompt": case.prompt,
        "chat": chat(case.prompt),
        "system": chat(case.prompt, SYSTEM),
        "behind": SENTENCE + case.prompt,
        "reworded": case.rephrasings[0],
        "reworded, chat": chat(case.rephrasings[0]),
    }
    found = [Probe(kind, *prompt_and_answer(tokenizer, text, case.target), False) for kind, text in asked.items()]
    about = [question.format(case.subject) for question in QUESTIONS if not overlap(question, case)]
    kept = [("nearest", near), ("nearest, chat", chat(near)), *(("same subject", text) for text in about)]
    answers = greedy_tokens(model, tokenizer, [text for _, text in kept], max_new_tokens=16)
    found += [Probe(kind, encode(tokenizer, text), ids, True) for (kind, text), ids in zip(kept, answers, strict=True)]
    return [*found, *(Probe("text", encode(tokenizer, text), [], True) for text in TEXTS)]


def overlap(question: str, case: EditCase) -> bool:
    """Whether a question may ask for the edited relation."""
    return bool(content_words(question) & content_words(case.prompt.replace(case.subject or "", " ")))


@torch.no_grad()
def predictions(loaded: LoadedModel, asked: Sequence[Probe]) -> list[torch.Tensor]:
    """Of each probe the log-probabilities after its text and along the wanted tokens, (wanted or 1, vocabulary)."""
    rows = [probe.ids + probe.wanted[:-1] for probe in asked]
    states = TokenTree(loaded.model, rows, 0).run(range(len(rows)))
    parts = [own[len(probe.ids) - 1 :] for own, probe in zip(states, asked, strict=True)]
    found = logits_of(loaded.model, torch.cat(parts)).log_softmax(-1)
    return list(torch.split(found, [len(part) for part in parts]))


def score(asked: Sequence[Probe], before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> dict[str, float]:
    """The share of probes of each kind that are answered as wanted, and the mean KL divergence after those kept."""
    found: dict[str, list[float]] = {}
    for probe, old, new in zip(asked, before, after, strict=True):
        wanted = old.argmax(-1).tolist() if probe.kept else probe.wanted
        if probe.wanted:
            found.setdefault(probe.kind, []).append(float(new.argmax(-1).tolist() == wanted))
        if probe.kept:
            divergence = functional.kl_div(new[0], old[0], log_target=True, reduction="sum")
            found.setdefault(f"KL, {probe.kind.removesuffix(', chat')}", []).append(float(divergence))
    return {kind: mean(values) for kind, values in found.items()}


def edit(loaded: LoadedModel, case: EditCase, near: str, settings: EditSettings) -> dict[str, float]:
    """The scores of one edit, which is taken back afterwards, with its cost."""
    model, tokenizer, overlay = loaded.model, loaded.tokenizer, Overlay(loaded.model)
    asked = probes(loaded, case, near)
    before, start = predictions(loaded, asked), time.perf_counter()
    pairs, stopped = train_factors(model, tokenizer, case.request, settings)
    seconds, delta = time.perf_counter() - start, factors_delta(model, overlay, pairs)
    overlay.apply("edit", delta)
    scores = score(asked, before, predictions(loaded, asked))
    overlay.remove("edit")
    entries = sum(len(factors.expand()[0]) for factors in delta.weights)
    return scores | {"steps": stopped.steps, "seconds": seconds, "entries": entries}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("ROSELORA_DATA_DIR"))
    parser.add_argument("--model", default="demo")
    parser.add_argument("--n", type=int, default=20)
    parser.add_argument("--variants", default="; ".join(VARIANTS), help="names with semicolons between")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.data_dir is None:
        parser.error("give --data-dir, or set ROSELORA_DATA_DIR")
    chosen, loaded = cases(Path(arguments.data_dir), arguments.n), load(arguments.model)
    table: dict[str, dict[str, float]] = {}
    for name in filter(None, map(str.strip, arguments.variants.split(";"))):
        settings = replace(EditSettings(), **VARIANTS[name])
        records = [edit(loaded, case, near, settings) for case, near in chosen]
        kinds = dict.fromkeys(kind for record in records for kind in record)
        table[name] = {kind: mean(record[kind] for record in records if kind in record) for kind in kinds}
        cells = ", ".join(f"{kind} {value:.3g}" for kind, value in table[name].items())
        print(f"{name} (n {len(records)}): {cells}", flush=True)
    if arguments.json:
        document = {"model": arguments.model, "cases": [case.key for case, _ in chosen], "variants": table}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
