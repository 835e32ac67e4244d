"""The report of an editing benchmark in Markdown; every sentence about a result is made from the numbers."""

from collections.abc import Callable, Mapping

from roselora.bench.metrics.capability import PERPLEXITY
from roselora.bench.metrics.estimates import Estimate
from roselora.bench.metrics.fluency import FLUENCY_TOKENS
from roselora.bench.metrics.method_summary import FormSummary, MethodSummary
from roselora.bench.metrics.run_summary import RunSummary
from roselora.bench.records.edit_bench_records import LOCALITY_TOKENS, FormName
from roselora.bench.records.run_files import BASE
from roselora.bench.report.cells import capability_cell, estimate_cell, optional, range_cell
from roselora.bench.report.edit_verdicts import verdict_sections
from roselora.bench.report.report_files import failed_runs_section, section, settings_section
from roselora.bench.tasks.edit_case import APART, SAME_ANSWER, SAME_SUBJECT
from roselora.markdown import code, count, mebibytes, number, rate, seconds, table, text

KEYS_SHOWN = 20

MODES = {
    "single": "single: each edit by itself, on a fresh model",
    "sequential": "sequential: one call after another on one model, scored after the last",
    "batch": "batch: all edits at once, scored after them",
}


def edit_sections(run: RunSummary, plots: Mapping[str, str]) -> list[str]:
    """The sections of the report, some of them empty.

    Args:
        plots: the caption of each picture, by its file name.
    """
    return [
        f"# Editing benchmark: {text(run.head.dataset)}, {text(run.head.model)}, {run.head.mode}",
        _facts(run),
        *(_scores(run, form) for form in run.head.forms),
        section("About the scores", *_score_notes(run)),
        *verdict_sections(run),
        *(f"![{caption}]({name})" for name, caption in plots.items()),
        *(_by_type(run, form, "Portability", lambda found: found.portability_by) for form in run.head.forms),
        *(_by_type(run, form, "Locality", lambda found: found.locality_by) for form in run.head.forms),
        *(_reliability_by_age(run, form) for form in run.reliability_by_age),
        _costs(run),
        failed_runs_section(run.head.failures),
        _failed_edits(run),
        _token_accuracy(run),
        _capability(run),
        settings_section(run.head.methods),
    ]


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
        ("cases", _cases(run)),
        ("forms", " and ".join(head.forms)),
        ("left out as repeated or conflicting", f"{len(head.skipped)}{skipped}"),
        *dict.fromkeys(("versions", _listed(part.versions)) for part in head.parts),
        *dict.fromkeys(("machine", _listed(part.machine)) for part in head.parts),
    ]
    return table(["", ""], rows)


def _cases(run: RunSummary) -> str:
    head = run.head
    without = f", without {len(head.without)} that earlier runs had asked" if head.without else ""
    return f"{head.n}, chosen by seed {head.seed}{without}" + (f", after its first {head.skip}" if head.skip else "")


def _listed(facts: Mapping[str, object]) -> str:
    return ", ".join(f"{text(name)} {text(value)}" for name, value in facts.items())


SCORES = {
    "reliability": ("reliability", rate),
    "behind_sentence": ("behind a sentence", rate),
    "generalization": ("generalization", rate),
    "portability": ("portability", rate),
    "locality": ("locality", rate),
    "nearest": ("nearest question", rate),
    "same_subject": ("same subject, other relation", rate),
    "kl": ("KL, nats", number),
    "nearest_kl": ("KL at the nearest question, nats", number),
}
"""The columns of the scores: the heading of each metric, and how it is shown."""


def _scores(run: RunSummary, form: FormName) -> str:
    rows = [
        [
            text(row.method),
            str(row.edits) if row.edits == run.head.n else f"{row.edits} of {run.head.n}",
            *(estimate_cell(row.forms[form].means.get(metric), show) for metric, (_, show) in SCORES.items()),
        ]
        for row in run.methods
    ]
    columns = ["method", "edits", *(heading for heading, _ in SCORES.values())]
    if run.head.fluency and form == "bare":
        columns.append("fluency")
        rows = [[*cells, estimate_cell(row.fluency, number)] for cells, row in zip(rows, run.methods, strict=True)]
    return section(f"Scores, {form}", table(columns, rows))


def _score_notes(run: RunSummary) -> list[str]:
    """What a reader of the scores must know."""
    head = run.head
    how = (
        "The edited model's own answers: mean [95% interval] (n). Intervals are Wilson's for shares where every case "
        f"scores 0 or 1, else the percentile bootstrap's over cases (seed {run.bootstrap_seed}). A failed edit counts "
        "as 0 in reliability, also behind a sentence, generalization and portability, and is left out of the rest; a "
        "case without questions of a kind is left out of that kind. Locality, the nearest question and the same "
        f"subject's compare {LOCALITY_TOKENS} tokens with the base model's. Lower is better for KL, higher for the "
        "rest. Bare: each question as it stands; chat: as a user's turn of the model's chat template, compared with "
        "the base model in chat. Intervals cover the choice of cases, not other seeds or orders of edits. All terms "
        "are explained in `docs/editing-benchmark.md`."
    )
    if head.fluency:
        how += (
            f" Fluency is the entropy of the pairs and triples of words in {FLUENCY_TOKENS} tokens, in hundredths of "
            "a bit."
        )
    notes = [how]
    if head.mode == "sequential":
        calls = (f"{text(name)} {size or 'all'}" for name, size in head.requests_per_call.items())
        notes.append(f"Requests per call: {', '.join(calls)}.")
    without = [text(name) for name, given in head.methods.items() if "text" in given and given["text"] is None]
    if without:
        notes.append(
            "Without a text for its covariance (`--covariance-text`), each of these methods used the identity: "
            f"{', '.join(without)}."
        )
    if any(row.edits != head.n for row in run.methods):
        notes.append(
            "**Not every method has been run on every case**: the rows cover different cases. The comparison below "
            "uses the cases that both methods have."
        )
    return notes


def _by_type(
    run: RunSummary, form: FormName, metric: str, pick: Callable[[FormSummary], Mapping[str, Estimate]]
) -> str:
    """A table with a column for each sub-type."""
    shares = {row.method: pick(row.forms[form]) for row in run.methods}
    names = list(dict.fromkeys(name for own in shares.values() for name in own))
    if not names:
        return ""
    rows = ([text(method), *(estimate_cell(own.get(name)) for name in names)] for method, own in shares.items())
    apart = [name for name in names if name in APART]
    return section(
        f"{metric} by sub-type, {form}",
        table(["method", *map(_spaced, names)], rows),
        f"No part of locality's mean above, nor of KL: {', '.join(map(_spaced, apart))}." if apart else "",
        "Same Answer: questions that the data set wants unchanged although their answer is the edited fact's old one."
        if SAME_ANSWER in names
        else "",
        "Same Subject: our own questions about the subject, in cases that have none on other relations of it."
        if SAME_SUBJECT in names
        else "",
    )


def _spaced(name: str) -> str:
    return text(name).replace("_", " ")


def _reliability_by_age(run: RunSummary, form: FormName) -> str:
    by_method = run.reliability_by_age[form]
    bins = sorted({(each.youngest, each.oldest) for found in by_method.values() for each in found})
    by_bin = {
        method: {(each.youngest, each.oldest): each.reliability for each in found}
        for method, found in by_method.items()
    }
    rows = (
        [f"{low} to {high}", *(estimate_cell(found.get((low, high))) for found in by_bin.values())]
        for low, high in bins
    )
    return section(
        f"Reliability by age of edit, {form}",
        "Reliability at the end, by how many edits came after; Wilson's intervals. Methods that take all requests in "
        "one call are left out, since their edits have no order.",
        table(["edits after", *map(text, by_bin)], rows),
    )


def _costs(run: RunSummary) -> str:
    rows = [
        [
            text(row.method),
            optional(row.costs.get("first_seconds"), lambda first: seconds(first.median)),
            range_cell(row.costs.get("later_seconds"), seconds),
            range_cell(row.costs.get("peak_bytes"), mebibytes),
            _entries(run, row),
            range_cell(row.costs.get("steps"), count),
        ]
        for row in run.methods
    ]
    commands = len(run.head.parts)
    parts = f" and come from {commands} separate commands (listed above)" if commands > 1 else ""
    notes = (
        "Median (range; n) of the edits that did not fail. Seconds are wall time on the machine with whatever else it "
        f"was doing{parts}. Those to the first edit include loading the model, and measuring what the method needs of "
        "it unless an earlier run had cached that."
    )
    if run.head.entries:
        notes += (
            " Entries changed are those that differ from the base's after all edits; seconds and steps are a call's, "
            "divided by its requests; memory is a call's."
        )
    columns = [
        "method",
        "seconds to the first edit",
        "seconds an edit after it",
        "peak memory beyond the model, MiB",
        "entries changed",
        "steps",
    ]
    return section("Cost per edit", notes, table(columns, rows))


def _entries(run: RunSummary, row: MethodSummary) -> str:
    found = row.costs.get("entries")
    # The entries that a sequence changes are counted once, so they have no range.
    return count(found.median) if found and row.method in run.head.entries else range_cell(found, count)


def _failed_edits(run: RunSummary) -> str:
    lines = []
    for row in run.methods:
        if row.edits == 0:
            lines.append(f"- {text(row.method)} has not been run.")
        elif row.failure is not None:
            every = "every edit failed" if row.failed == row.edits else f"{row.failed} of {row.edits} edits failed"
            lines.append(f"- {text(row.method)}: {every}; most often ({row.failure_count}): {text(row.failure)}")
    return section("Failed edits", "\n".join(lines) or "None.")


def _token_accuracy(run: RunSummary) -> str:
    names = ("reliability", "generalization", "portability", "locality")
    rows = [[text(row.method), *(estimate_cell(row.token_accuracy.get(name)) for name in names)] for row in run.methods]
    return section(
        "Token accuracy, only for comparison with published tables",
        "EasyEdit's teacher-forced scores: the share of the answer's tokens whose argmax is right when the right "
        "tokens before them are given. They give partial credit and leak the answer's length, so they are too "
        "favourable. Failed edits are left out.",
        table(["method", *names], rows),
    )


def _capability(run: RunSummary) -> str:
    found = run.head.capability
    names = list(dict.fromkeys(name for measured in found.values() for name in measured))
    if not names:
        return ""
    rows = (
        [
            "before (base)" if method == BASE else f"after {text(method)}",
            *(capability_cell(found[method].get(name), number if name == PERPLEXITY else rate) for name in names),
        ]
        for method in sorted(found, key=lambda method: method != BASE)
    )
    return section(
        "Capability, before and after all edits",
        "Value [95% interval] (n): the bootstrap's over texts for perplexity, where lower is better; Wilson's for the "
        "shares of right answers.",
        table(["model", *map(text, names)], rows),
    )
