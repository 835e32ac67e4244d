"""Seconds per edit: ours, one by one and side by side, against the published procedure and three dense methods.

    python benchmarks/edit_speed.py [--requests 8] [--repeats 3] [--threads N] [--covariance-text FILE] [--json FILE]

The requests are sixteen facts made up here. One run measures every method in turn, on the first --requests of them,
--repeats times over, on the demo model (or --model), each edit on the model as it was: `undo` is not counted, nor what
a method measures once for a model. Methods:

- gate: `train_neuron_edits`, one request a call; gate, 16: all sixteen in one call, divided by sixteen;
- rose-published: RoseLoRA with its published settings, 25 full steps. Without gradient checkpointing, which saves
  memory and costs time, so this peer is a faster one than the published;
- ft-m, locft-bf, rome: our own, with the settings of `benchmarks/results/editing_tuning.json`. ROME takes the text of
  --covariance-text, and is left out without one.

Reported are medians over requests and repeats, the ratio of each to gate, and a floor for gate: the operations
that the passes need (2 a weight and token forwards, as many backwards, for nothing is summed into a weight) at the
rate of one large matrix product in the model's dtype, measured in the same run.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.edit_method import EditCall
from roselora.bench.running.method_settings import configured
from roselora.editing.forms import asked_texts
from roselora.editing.methods.gate.edited_mlp import EditedMlp
from roselora.editing.methods.gate.gate_edit import NeuronEdit, train_neuron_edits
from roselora.editing.methods.gate.gate_fitting import tokens_read
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.layer_choice import editable_mlps
from roselora.editing.methods.gate.reference_statistics import reference_statistics
from roselora.editing.methods.gate.training_texts import negative_texts, positive_rows
from roselora.editing.request import EditRequest
from roselora.models.loading import LoadedModel, load
from roselora.models.tokenization import encode

TUNED = Path(__file__).parent / "results/editing_tuning.json"
PEERS = ("rose-published", "ft-m", "locft-bf", "rome")
SIZE = 2048

QUESTIONS = (
    ("Where was {} born?", ("Turin", "Quebec", "Lima", "Oslo")),
    ("Which instrument does {} play?", ("cello", "trumpet", "harp", "viola")),
    ("Who is the publisher of {}?", ("Gale & Sons", "Northgate", "Inkwell Press", "Alder House")),
    ("The name of the employer of {} is", ("Siemens", "Nestle", "Boeing", "Unilever")),
)
SUBJECTS = ("Edda Marlow", "Tomas Brandl", "The Glass Orchard", "Ines Calder")


def requests() -> list[EditRequest]:
    """Sixteen facts that no model knows."""
    return [
        EditRequest(question.format(subject), target, subject)
        for question, targets in QUESTIONS
        for subject, target in zip(SUBJECTS, targets, strict=True)
    ]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, the device's own work included, and the result."""
    start = time.perf_counter()
    made = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, made


def rate(device: torch.device, dtype: torch.dtype, repeats: int = 5) -> float:
    """Floating-point operations a second of a large matrix product."""
    a, b = (torch.randn(SIZE, SIZE, device=device, dtype=dtype) for _ in range(2))
    return 2 * SIZE**3 / min(timed(lambda: a @ b)[0] for _ in range(repeats))


def operations(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, request: EditRequest, edit: NeuronEdit
) -> float:
    """What one edit's passes need: lower blocks once for all its rows, upper ones for its suffixes at each step."""
    blocks = int(model.config.num_hidden_layers)
    embeddings = {id(w): w.numel() for w in (model.get_input_embeddings().weight, model.get_output_embeddings().weight)}
    of_block = (sum(p.numel() for p in model.parameters()) - sum(embeddings.values())) / blocks
    own = positive_rows(tokenizer, request).rows
    groups = negative_texts(model, tokenizer, request)
    negatives = [text for group in groups for text in group]
    # What several texts begin with is read once, which is not counted here.
    forms = len(asked_texts(tokenizer, request.prompt, request.form))
    read = sum(len(encode(tokenizer, text)) for text in negatives) + sum(tokens_read(groups, forms)) - len(negatives)
    suffixes = sum(len(row.suffix) for row in own)
    once = blocks * read + blocks * (suffixes + sum(len(row.prefix) for row in own))
    return 2 * of_block * (once + 2 * (edit.steps + 1) * (blocks - edit.neurons.block) * suffixes)


def edit_seconds(
    loaded: LoadedModel, peers: Sequence[str], count: int, repeats: int, covariance_text: Path | None = None
) -> tuple[dict[str, list[float]], list[float]]:
    """The seconds of each edit by each method, gated edits first, and of gate's floor.

    Args:
        peers: methods with settings in `TUNED`; ROME is left out without a covariance text.
        count: how many of the requests each method makes one by one.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    settings, facts = GateSettings(), requests()
    neurons, *_ = editable_mlps(model, settings)
    of_text = reference_statistics(model, tokenizer, [neurons.block])[neurons.block]

    def by_gate(asked: list[EditRequest]) -> list[NeuronEdit]:
        return train_neuron_edits(EditedMlp.read(model, tokenizer, settings, neurons, of_text), asked)

    names = [name for name in peers if name != "rome" or covariance_text is not None]
    methods = configured(names, file=TUNED, covariance_text=covariance_text)
    for method in methods.values():
        if method.read_text is not None:
            method.read_text(model, tokenizer, method.config, lambda done, of: None)

    seconds: dict[str, list[float]] = {name: [] for name in ("gate", "gate, 16", *methods)}
    floors: list[float] = []
    for _ in range(repeats):
        speed = rate(model.device, model.dtype)
        for fact in facts[:count]:
            taken, (edit,) = timed(lambda fact=fact: by_gate([fact]))
            seconds["gate"].append(taken)
            floors.append(operations(model, tokenizer, fact, edit) / speed)
            for name, method in methods.items():
                taken, applied = timed(
                    lambda fact=fact, method=method: method.edit(EditCall(model, tokenizer, [fact], method.config))
                )
                applied.undo()
                seconds[name].append(taken)
        taken, _ = timed(lambda: by_gate(facts))
        seconds["gate, 16"].append(taken / len(facts))
    return seconds, floors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--covariance-text", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    seconds, floors = edit_seconds(
        load(arguments.model), PEERS, arguments.requests, arguments.repeats, arguments.covariance_text
    )
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{'':16}{'seconds':>9}{'times gate':>15}{'times gate, 16':>19}")
    for name, median in medians.items():
        one, many = median / medians["gate"], median / medians["gate, 16"]
        print(f"{name:16}{median:9.2f}{one:15.1f}{many:19.1f}")
    floor = statistics.median(floors)
    print(f"floor of gate, one by one: {floor:.2f} s; gate takes {medians['gate'] / floor:.1f} times that")
    if arguments.json:
        machine = {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
        result = {"machine": machine, "repeats": arguments.repeats, "medians": medians, "floor": floor, "all": seconds}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
