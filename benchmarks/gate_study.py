"""The limits of gated neuron edits, on the demo model or another, and development records.

    python benchmarks/gate_study.py --data-dir DATA [--parts lost silent depth together strength] [--n 32]

The records are those of MEND's ZsRE whose prompt is in no file that results are reported on, and for ``strength`` as
many of KnowEdit's train file of counterfactuals; ``strength`` alone may be asked of another model (--model).

- ``lost``: perplexity without the least important neurons, as many as a thousand edits replace, in more or fewer
  blocks; on reference answers of AlpacaEval that the editing benchmark does not read.
- ``silent``: of twice ``--n`` edits in the four lowest MLPs that edits go to, how many hold once every editable MLP has
  lost as many neurons: after the edits were trained, and before.
- ``depth``: ``--n`` single edits in one block or another; how many prompts and rephrasings get the target.
- ``together``: seven times ``--n`` edits by `Editor.edit_many`; how many do not hold, and how many after
  `Editor.repair`. Then every seventh of them is undone by itself and redone, and in the end all are undone: what the
  model answers, and whether the bytes are the same.
- ``strength``: ``--n`` single edits of each set whose neurons write all, a half, a third and a quarter of what they
  were trained to; what holds and what moves then.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from rose_study import cases as with_questions
from rose_study import unmeasured
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.weight_changes import Deltas, undone_on_error
from roselora.bench.metrics.case_scoring import CaseScorer
from roselora.bench.metrics.perplexity import perplexity, text_losses
from roselora.bench.tasks.edit_case import RELATION_SPECIFICITY, EditCase, Probe
from roselora.bench.tasks.general_ability import perplexity_texts
from roselora.editing.edit_answers import GivenAnswer, answers_to, broken_requests
from roselora.editing.editor import Editor
from roselora.editing.methods.gate.edited_mlp import EditedMlp
from roselora.editing.methods.gate.gate_edit import in_batches, least_important, train_neuron_edits
from roselora.editing.methods.gate.gate_settings import GateSettings
from roselora.editing.methods.gate.joint_edits import silencing
from roselora.editing.methods.gate.layer_choice import editable_mlps
from roselora.editing.methods.gate.reference_statistics import reference_statistics
from roselora.editing.request import EditRequest
from roselora.errors import EditError
from roselora.models.fingerprint import fingerprint
from roselora.models.loading import LoadedModel, load
from roselora.models.mlp_neurons import neurons

LOST = 3837
"""How many neurons the stream of a thousand edits replaced."""

RANGES = ((19, 27), (16, 27), (13, 27), (10, 27))
BLOCKS = (12, 16, 20, 25)
STRENGTHS = (1.0, 0.5, 0.35, 0.25)
PARTS = ("lost", "silent", "depth", "together", "strength")
SETTINGS = GateSettings()

Model = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def losing(
    model: Model, blocks: Iterable[int], count: int, spared: Mapping[int, set[int]]
) -> AbstractContextManager[None]:
    """Inside, the ``count`` least important neurons of each MLP write nothing, but for those that are spared."""
    lost = [
        (neurons(model[0], block), [n for n in least_important(text, ())[:count] if n not in spared.get(block, ())])
        for block, text in reference_statistics(*model, list(blocks)).items()
    ]
    return silencing(model[0], lost)


def edited(model: Model, block: int, others: Sequence[EditRequest] = ()) -> EditedMlp:
    """One block's MLP in the model as it is now."""
    statistics = reference_statistics(*model, [block])[block]
    return EditedMlp.read(*model, SETTINGS, neurons(model[0], block), statistics, others)


def lost(model: Model, texts: Sequence[str]) -> None:
    print(f"nothing lost: perplexity {perplexity(text_losses(*model, texts)):.2f} (n {len(texts)})", flush=True)
    for first, last in RANGES:
        blocks = range(first, last + 1)
        with losing(model, blocks, round(LOST / len(blocks)), {}):
            found = perplexity(text_losses(*model, texts))
        print(f"lost in blocks {first} to {last}: perplexity {found:.2f}", flush=True)


def edit_one_mlp(mlp: EditedMlp, deltas: Deltas, requests: Sequence[EditRequest], taken: set[int]) -> None:
    """Apply edits of one MLP, trained in batches; the neurons that they replace are added to ``taken``."""
    for part in in_batches(requests):
        for edit in train_neuron_edits(mlp, part, taken):
            deltas.apply(edit.delta(mlp.model, deltas.overlay.base_sha256))
            taken.update(edit.indices)


def broken_by_loss(model: Model, requests: Sequence[EditRequest], *, before: bool) -> None:
    blocks = sorted(mlp.block for mlp in editable_mlps(model[0], SETTINGS))
    each = round(LOST / len(blocks))
    taken: dict[int, set[int]] = {block: set() for block in blocks}
    with undone_on_error(Deltas(model[0])) as deltas:
        for number, block in enumerate(blocks[:4]):
            with losing(model, blocks[number + 1 :] if before else (), each, {}):
                edit_one_mlp(edited(model, block, requests), deltas, requests[number::4], taken[block])
        at_first = len(broken_requests(*model, requests))
        with losing(model, blocks, each, taken):
            broken = len(broken_requests(*model, requests))
    deltas.restore()
    when = "before" if before else "after"
    print(f"lost {when} training: {broken} of {len(requests)} do not hold; if none is lost, {at_first}", flush=True)


def depth(model: Model, cases: Sequence[EditCase]) -> None:
    for block in BLOCKS:
        mlp = edited(model, block)
        said = rephrased = 0
        for part in in_batches(cases):
            edits = train_neuron_edits(mlp, [case.request for case in part])
            for case, edit in zip(part, edits, strict=True):
                with undone_on_error(Deltas(model[0])) as deltas:
                    deltas.apply(edit.delta(model[0], deltas.overlay.base_sha256))
                    others = [EditRequest(prompt, case.target) for prompt in case.rephrasings]
                    said += not broken_requests(*model, [case.request])
                    rephrased += len(others) - len(broken_requests(*model, others))
                deltas.restore()
        asked = sum(len(case.rephrasings) for case in cases)
        print(f"block {block}: {said} of {len(cases)} prompts, {rephrased} of {asked} rephrasings", flush=True)


def together(loaded: LoadedModel, cases: Sequence[EditCase]) -> None:
    requests = [case.request for case in cases]
    rephrased = [EditRequest(prompt, case.target) for case in cases for prompt in case.rephrasings]
    failed: list[EditError] = []
    said_before = answers_to(loaded.model, loaded.tokenizer, requests)

    def count(asked: Sequence[EditRequest]) -> int:
        return len(broken_requests(loaded.model, loaded.tokenizer, asked))

    with tempfile.TemporaryDirectory() as store:
        editor = Editor(loaded, store=store)
        start = time.perf_counter()
        editor.edit_many(requests, on_failure=lambda _, error: failed.append(error))
        seconds = (time.perf_counter() - start) / len(requests)
        print(f"together: of {len(requests)} {len(failed)} not learned, {count(requests)} do not hold", flush=True)
        repaired = len(editor.repair())
        print(f"{seconds:.1f} s an edit; {repaired} repaired, then {count(requests)} do not hold", flush=True)
        print(f"{len(rephrased) - count(rephrased)} of {len(rephrased)} rephrasings get the target", flush=True)
        taken_out(editor, dict(zip(requests, said_before, strict=True)))


def taken_out(editor: Editor, said_before: Mapping[EditRequest, Sequence[GivenAnswer]]) -> None:
    """Every seventh edit undone by itself and brought back, then all of them undone."""
    model = editor.model, editor.tokenizer
    edits, edited = editor.edits, fingerprint(editor.model)
    as_before = others = same_bytes = 0
    for edit in edits[::7]:
        editor.undo(edit.id)
        (said,) = answers_to(*model, [edit.request])
        as_before += said == said_before[edit.request]
        others += len(broken_requests(*model, [other.request for other in edits if other.id != edit.id]))
        editor.redo(edit.id)
        same_bytes += fingerprint(editor.model) == edited
    one_by_one = f"{len(edits[::7])} edits, each undone by itself: {as_before} prompts get the base's answer"
    print(f"{one_by_one}, {others} answers to others are lost; {same_bytes} brought back byte for byte", flush=True)
    for edit in edits:
        editor.undo(edit.id)
    restored = fingerprint(editor.model) == editor.store.base.sha256
    print(f"all undone: the bytes are {'' if restored else 'not '}the base's", flush=True)


def counterfactuals(data_dir: Path, n: int) -> list[EditCase]:
    """Records of the train file; a rephrasing has another name of the subject, locality asks other relations of it."""
    records = json.loads((data_dir / "knowledge_editing" / "train_cf.json").read_text())
    random.Random(3).shuffle(records)
    found = []
    for number, record in enumerate(records):
        others = tuple(Probe(each["prompt"], ("",)) for each in record["locality"].get(RELATION_SPECIFICITY, [])[:4])
        names = tuple(each["prompt"] for each in record["portability"].get("Subject_Aliasing", [])[:3])
        if others and record["subject"] in record["prompt"]:
            fact = record["prompt"], record["target_new"], record["subject"]
            found.append(EditCase(f"train_cf/{number}", *fact, names, locality={RELATION_SPECIFICITY: others}))
    return found[:n]


def strength(loaded: LoadedModel, name: str, cases: Sequence[EditCase]) -> None:
    model = loaded.model, loaded.tokenizer
    block = editable_mlps(loaded.model, SETTINGS)[0].block
    seen: dict[tuple[float, str], dict[str, list[float]]] = {}
    for case in cases:
        scorer = CaseScorer(*model, [case], forms=("bare", "chat"))
        (edit,) = train_neuron_edits(edited(model, block), [case.request])
        for share in STRENGTHS:
            with undone_on_error(Deltas(loaded.model)) as deltas:
                weaker = replace(edit, columns=share * edit.columns)
                deltas.apply(weaker.delta(loaded.model, deltas.overlay.base_sha256))
                (scores,) = scorer.score([case])
            deltas.restore()
            for form, own in (("bare", scores.bare), ("chat", scores.chat)):
                assert own is not None
                values = {"prompt": own.reliability, "reworded": own.generalization}
                values |= {f"{kind} stays": kept for kind, kept in own.locality.items()}
                values |= {f"{kind} KL": moved for kind, moved in own.kl_by.items()}
                for what, value in values.items():
                    if value is not None:
                        seen.setdefault((share, form), {}).setdefault(what, []).append(value)
    for (share, form), values in seen.items():
        means = ", ".join(f"{what} {statistics.fmean(each):.3f} ({len(each)})" for what, each in values.items())
        print(f"{name}, {share:g} of the strength, {form}: {means}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--n", type=int, default=32, help="records; twice as many for silent, 7 times for together")
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--model", default="demo")
    arguments = parser.parse_args()
    if arguments.model != "demo" and {*arguments.parts} != {"strength"}:
        parser.error("Of another model only --parts strength is known; the others count the demo model's blocks.")
    cases = unmeasured("zsre_mend", arguments.data_dir)
    loaded = load(arguments.model)
    model = loaded.model, loaded.tokenizer
    if "strength" in arguments.parts:
        # First, for what follows counts the demo model's blocks.
        strength(loaded, "counterfactuals", counterfactuals(arguments.data_dir, arguments.n))
        strength(loaded, "ZsRE", with_questions(arguments.data_dir, arguments.n))
    if not {*arguments.parts} - {"strength"}:
        return
    # Of all blocks at once: statistics are cached by the hash of the weights, and these are about to change.
    reference_statistics(*model, range(min(first for first, _ in RANGES), max(last for _, last in RANGES) + 1))
    if "lost" in arguments.parts:
        lost(model, perplexity_texts(arguments.data_dir, None)[300 : 300 + arguments.texts])
    if "silent" in arguments.parts:
        for before in (False, True):
            broken_by_loss(model, [case.request for case in cases[: 2 * arguments.n]], before=before)
    if "depth" in arguments.parts:
        depth(model, cases[: arguments.n])
    if "together" in arguments.parts:
        together(loaded, cases[: 7 * arguments.n])


if __name__ == "__main__":
    main()
