"""The report of an editing benchmark in words and tables; every sentence about a result is made from the numbers."""

import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from roselora.bench.metrics.capability import PERPLEXITY
from roselora.bench.metrics.estimates import Estimate
from roselora.bench.metrics.fluency import FLUENCY_TOKENS
from roselora.bench.metrics.method_summary import MethodSummary
from roselora.bench.metrics.run_summary import RunSummary
from roselora.bench.records.edit_bench_records import LOCALITY_TOKENS
from roselora.bench.records.run_files import as_json
from roselora.bench.report.edit_verdicts import verdicts
from roselora.bench.report.estimate_text import capability, estimated, spreaded
from roselora.bench.report.failed_runs import failed_runs
from roselora.bench.tasks.edit_case import SAME_ANSWER
from roselora.markdown import code, count, mebibytes, number, rate, seconds, table, text

KEYS_SHOWN = 20

SAME_ANSWER_NOTE = (
    "Same Answer: questions that the file wants unmoved though the edited fact's own old answer is theirs; they are no "
    "part of locality's mean above, nor of KL."
)

MODES = {
    "single": "single: each edit by itself, on a fresh model",
    "sequential": "sequential: one call after another on one model, scored after the last",
    "batch": "batch: all edits at once, scored after them",
}


def markdown(run: RunSummary, plots: Mapping[str, str]) -> str:
    """The whole report.

    Args:
        plots: what each picture shows, by its file name.
    """
    sections = [
        f"# Editing benchmark: {text(run.head.dataset)}, {text(run.head.model)}, {run.head.mode}",
        _facts(run),
        _scores(run),
        *verdicts(run),
        *(f"![{shown}]({name})" for name, shown in plots.items()),
        _by_type("Portability by sub-type", run.methods, lambda row: row.portability_by),
        _by_type("Locality by sub-type", run.methods, lambda row: row.locality_by, {SAME_ANSWER: SAME_ANSWER_NOTE}),
        _reliability_by_age(run),
        _costs(run),
        *failed_runs(run.head.failures),
        _failures(run),
        _token_accuracy(run),
        _capability(run),
        _settings(run),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _facts(run: RunSummary) -> str:
    head = run.head
    skipped = f": {', '.join(map(text, head.skipped[:KEYS_SHOWN]))}" if head.skipped else ""
    if len(head.skipped) > KEYS_SHOWN:
        skipped += ", and more (in `report.json`)"
    rows = [
        *(("command", code(part.command)) for part in head.parts),
        ("model", f"{text(head.model)}, SHA-256 of its weights `{head.model_sha256}`"),
        ("data", f"{text(head.dataset)}, {code(head.data_file)}, SHA-256 `{head.data_sha256}`"),
        ("mode", MODES[head.mode]),
        ("cases", f"{head.n}, chosen by seed {head.seed}" + (f", after its first {head.skip}" if head.skip else "")),
        ("left out as repeated or conflicting", f"{len(head.skipped)}{skipped}"),
    ]
    for label, facts in (
        ("versions", [part.versions for part in head.parts]),
        ("machine", [part.machine for part in head.parts]),
    ):
        rows += dict.fromkeys((label, ", ".join(f"{text(k)} {text(v)}" for k, v in each.items())) for each in facts)
    return table(["", ""], rows)


def _scores(run: RunSummary) -> str:
    columns = ["method", "edits", "reliability", "generalization", "portability", "locality", "KL, nats", "fluency"]
    rows = [
        [
            text(row.method),
            str(row.edits) if row.edits == run.head.n else f"{row.edits} of {run.head.n}",
            *map(estimated, (row.reliability, row.generalization, row.portability, row.locality)),
            estimated(row.kl, number),
            estimated(row.fluency, number),
        ]
        for row in run.methods
    ]
    return "\n\n".join([f"## Scores\n\n{table(columns, rows)}", *_score_notes(run)])


def _score_notes(run: RunSummary) -> list[str]:
    """What a reader of the scores must know."""
    notes = [
        "What the edited model says by itself: mean [95% interval] (n). Intervals are Wilson's for shares where every "
        f"case scores 0 or 1, else the percentile bootstrap's over cases (seed {run.bootstrap_seed}). A failed edit "
        "counts as 0 in reliability, generalization and portability, and is left out of the rest; what a case does "
        f"not ask is never counted. Locality compares {LOCALITY_TOKENS} tokens with the base model's. Less KL is "
        "better; of the rest, more. Intervals speak of the choice of cases, not of other seeds or orders of edits. "
        "Every word is explained in `docs/editing-benchmark.md`."
    ]
    if run.head.fluency:
        notes[0] += (
            f" Fluency is the entropy of the pairs and triples of words in {FLUENCY_TOKENS} tokens, in hundredths of "
            "a bit."
        )
    if run.head.mode == "sequential":
        calls = (f"{text(name)} {size or 'all'}" for name, size in run.head.requests_per_call.items())
        notes.append(f"Requests that each call took: {', '.join(calls)}.")
    without = [text(name) for name, given in run.head.methods.items() if "text" in given and given["text"] is None]
    if without:
        notes.append(
            f"Without a text for its covariance (`--covariance-text`) each of these took the identity: "
            f"{', '.join(without)}."
        )
    if any(row.edits != run.head.n for row in run.methods):
        notes.append(
            "**Not every method has been run on every case**: rows rest on different cases. The comparison below takes "
            "the cases that both methods have."
        )
    return notes


def _by_type(
    title: str,
    rows: Sequence[MethodSummary],
    pick: Callable[[MethodSummary], Mapping[str, Estimate]],
    notes: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """A table with a column for each sub-type, and the notes on those that are there."""
    names = list(dict.fromkeys(name for row in rows for name in pick(row)))
    if not names:
        return ""
    cells = ([text(row.method), *(estimated(pick(row).get(name)) for name in names)] for row in rows)
    shown = table(["method", *(text(name).replace("_", " ") for name in names)], cells)
    return "\n\n".join([f"## {title}", shown, *(note for name, note in notes.items() if name in names)])


def _reliability_by_age(run: RunSummary) -> str:
    if not run.reliability_by_age:
        return ""
    bins = sorted({(each.youngest, each.oldest) for found in run.reliability_by_age.values() for each in found})
    by_bin = {
        method: {(each.youngest, each.oldest): each.reliability for each in found}
        for method, found in run.reliability_by_age.items()
    }
    rows = (
        [f"{low} to {high}", *(estimated(found.get((low, high))) for found in by_bin.values())] for low, high in bins
    )
    return (
        "## Reliability by age of edit\n\nReliability at the end, by how many edits came after; Wilson's intervals. "
        "Methods that take all requests in one call are left out: none of their edits is older than another.\n\n"
        + table(["edits after", *map(text, by_bin)], rows)
    )


def _costs(run: RunSummary) -> str:
    rows = [
        [
            text(row.method),
            spreaded(row.costs.get("seconds"), seconds),
            spreaded(row.costs.get("peak_bytes"), mebibytes),
            _entries(run, row),
            spreaded(row.costs.get("steps"), count),
        ]
        for row in run.methods
    ]
    notes = (
        "Median (least to most; n), of edits that did not fail. Seconds are wall time on the machine as it was, with "
        "whatever else it had to do"
        + ("." if len(run.head.parts) < 2 else f", and come from {len(run.head.parts)} sittings (the commands above).")
    )
    if run.head.entries:
        notes += (
            " Entries changed are those that differ from the base's after all edits; seconds and steps are a call's, "
            "divided by its requests; memory is a call's."
        )
    return f"## Cost per edit\n\n{notes}\n\n" + table(
        ["method", "seconds", "peak memory beyond the model, MiB", "entries changed", "steps"], rows
    )


def _entries(run: RunSummary, row: MethodSummary) -> str:
    found = row.costs.get("entries")
    # What a sequence changes is counted once, so it has no range.
    return count(found.median) if found and row.method in run.head.entries else spreaded(found, count)


def _failures(run: RunSummary) -> str:
    lines = []
    for row in run.methods:
        if row.edits == 0:
            lines.append(f"- {text(row.method)} has not been run.")
        elif row.failure is not None:
            every = "every edit failed" if row.failed == row.edits else f"{row.failed} of {row.edits} edits failed"
            lines.append(f"- {text(row.method)}: {every}; most often ({row.failure_count}): {text(row.failure)}")
    return "## Failed edits\n\n" + ("\n".join(lines) or "None.")


def _token_accuracy(run: RunSummary) -> str:
    names = ("reliability", "generalization", "portability", "locality")
    rows = [[text(row.method), *(estimated(row.token_accuracy.get(name)) for name in names)] for row in run.methods]
    return (
        "## Token accuracy, only for comparison with published tables\n\n"
        "EasyEdit's teacher-forced scores: the share of "
        "the answer's tokens whose argmax is right when the right tokens before them are given. They give partial "
        "credit and leak the answer's length, so they flatter. Failed edits are left out.\n\n"
        + table(["method", *names], rows)
    )


def _capability(run: RunSummary) -> str:
    found = run.head.capability
    names = list(dict.fromkeys(name for measured in found.values() for name in measured))
    if not names:
        return ""
    order = [*(["base"] if "base" in found else []), *(method for method in found if method != "base")]
    rows = (
        [
            "before (base)" if method == "base" else f"after {text(method)}",
            *(capability(found[method].get(name), number if name == PERPLEXITY else rate) for name in names),
        ]
        for method in order
    )
    return (
        "## Capability, before and after all edits\n\n"
        "Figure [95% interval] (n): the bootstrap's over texts for perplexity, of which less is better; Wilson's for "
        "the shares of right answers.\n\n" + table(["model", *map(text, names)], rows)
    )


def _settings(run: RunSummary) -> str:
    lines = (
        f"- {text(method)}: `{json.dumps(as_json(settings), ensure_ascii=False)}`"
        for method, settings in run.head.methods.items()
    )
    return "## Settings of each method\n\n" + "\n".join(lines)
