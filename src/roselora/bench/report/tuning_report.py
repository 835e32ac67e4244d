"""The report of a fine-tuning benchmark: Markdown, JSON and a picture in one folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from roselora.bench.metrics.glue_metrics import CORRELATIONS
from roselora.bench.metrics.learning_rate_choice import chosen_rate, chosen_units
from roselora.bench.metrics.run_summary import OURS
from roselora.bench.metrics.tuning_scores import (
    Difference,
    MethodScore,
    differences,
    method_scores,
)
from roselora.bench.records.run_files import BASE, as_json, read_head, read_records
from roselora.bench.records.tuning_bench_records import (
    Abilities,
    Answered,
    Judgement,
    LikelihoodPair,
    TrainedUnit,
    TuningHead,
)
from roselora.bench.report.estimate_text import estimated, spreaded
from roselora.bench.report.failed_runs import failed_runs
from roselora.bench.report.forgetting_section import forgetting_section
from roselora.bench.report.judged_section import judged_section
from roselora.bench.report.tuning_plots import tuning_plots
from roselora.files import write_atomically
from roselora.markdown import NOTHING, code, count, mebibytes, number, rate, seconds, table, text


def write_tuning_report(folder: Path) -> list[Path]:
    """Write what a run shows, be it finished or not; reports that are there are replaced.

    Returns:
        The files that were written.

    Raises:
        FileFormatError: the folder holds no run.
        OSError: a file cannot be written.
    """
    head = read_head(folder, TuningHead)
    answers, units = read_records(folder, Answered), read_records(folder, TrainedUnit)
    abilities = read_records(folder, Abilities)
    own = chosen_units(units, head.question_seed, head.rates)
    rows = method_scores(answers, own, (BASE, *head.settings), tuple(head.asked))
    paired = differences(answers, OURS)
    judged = judged_section(read_records(folder, Judgement), read_records(folder, LikelihoodPair))
    forgotten = forgetting_section(abilities)
    document = {
        "head": as_json(head),
        "methods": [as_json(asdict(row)) for row in rows],
        f"{OURS}_less": [as_json(difference) for difference in paired],
        "abilities": [as_json(one) for one in abilities],
    }
    files = {
        "report.md": _markdown(head, units, rows, paired, [*judged, *forgotten]).encode(),
        "report.json": json.dumps(document, indent=2, allow_nan=False).encode() + b"\n",
    }
    files |= tuning_plots(rows, abilities)
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]


def _markdown(
    head: TuningHead,
    units: Sequence[TrainedUnit],
    rows: Sequence[MethodScore],
    paired: Sequence[Difference],
    more: Sequence[str],
) -> str:
    about = [
        ("command", code(head.command)),
        ("model", f"{text(head.model)}, SHA-256 of its weights {code(head.model_sha256)}"),
        ("protocol", head.protocol),
        ("training", f"{text(head.training)}, {count(head.lessons)} records"),
        *((f"records left out of it, {text(why)}", count(left)) for why, left in head.training_left_out.items()),
        ("seeds of training", ", ".join(map(str, head.seeds))),
        ("questions and training records", f"drawn by seed {head.question_seed}"),
        *((f"SHA-256 of {text(name)}", code(sha256)) for name, sha256 in head.sources.items()),
        ("versions", ", ".join(f"{name} {version}" for name, version in head.versions.items())),
        ("machine", ", ".join(f"{name} {value}" for name, value in head.machine.items())),
    ]
    parts = [
        f"# Fine-tuning benchmark: {head.benchmark}, {text(head.model)}",
        table(["", ""], about),
        *_scored(head, rows, paired),
        *_rates(head, units),
        *more,
        *failed_runs(head.failures),
        *_cost(rows),
        "## Settings",
        "\n".join(_settings(head)),
        "Where learning rates were chosen, they stand above.",
    ]
    return "\n\n".join(parts) + "\n"


def _scored(head: TuningHead, rows: Sequence[MethodScore], paired: Sequence[Difference]) -> list[str]:
    """What was said to the test sets; nothing if there are none."""
    if not head.asked:
        return []
    scores = [
        [row.method, *(_score(row, name) for name in head.asked), NOTHING if row.average is None else rate(row.average)]
        for row in rows
    ]
    by_seed = [[row.method, *(_seeds(row, name) for name in head.asked), *(_unread(row),)] for row in rows if row.sets]
    sets = [f"{name}{_metric(name)} ({asked} of {head.of[name]})" for name, asked in head.asked.items()]
    return [
        "## Scores",
        table(["method", *sets, "average"], scores),
        "Accuracy, unless a set's name says otherwise: mean [95% interval] (n questions), over questions, each the "
        "mean of its seeds: Wilson's interval where all are 0 or 1, else the percentile bootstrap's (seed 0). A "
        "correlation is the seeds' mean, with the bootstrap's interval. The average is the sets' plain mean. After "
        f"each set's name: how many of its questions were asked. {_read_how(head)}",
        "## By seed",
        table(["method", *head.asked, "answers in which nothing could be read"], by_seed),
        f"## {OURS} less each other method",
        table(
            ["method", "difference, all questions alike", "n"],
            [[d.method, f"{rate(d.value)} [{rate(d.low)}, {rate(d.high)}]", count(d.n)] for d in paired],
        )
        if paired
        else "There is nothing to compare yet.",
    ]


def _cost(rows: Sequence[MethodScore]) -> list[str]:
    costs = [
        [
            row.method,
            NOTHING if row.trained is None else count(row.trained),
            NOTHING if row.entries_changed is None else count(row.entries_changed),
            NOTHING if row.file_bytes is None else mebibytes(row.file_bytes),
            NOTHING if row.delta_bytes is None else mebibytes(row.delta_bytes),
            spreaded(row.seconds, seconds),
            spreaded(row.peak_bytes, mebibytes),
            spreaded(row.steps, count),
        ]
        for row in rows
    ]
    return [
        "## Cost",
        table(
            [
                "method",
                "parameters trained",
                "entries changed",
                "file, MiB",
                "as a delta, MiB",
                "seconds of training",
                "peak memory beyond the base, MiB",
                "steps",
            ],
            costs,
        ),
        "Seconds, memory and steps: median (range; runs). Entries changed are those of the base's weights that have "
        "another value once the update is merged, of the first run; a classifier's new head, which every method "
        "trains, counts among the parameters and in the file alone. Prefix and LoReFT change no weight. A delta "
        "holds the update of the base's weights without a head.",
    ]


def _settings(head: TuningHead) -> list[str]:
    """A line for each set of settings and the methods that share it, which is one for all unless a run was added to."""
    shared: dict[str, list[str]] = {}
    for method, settings in head.settings.items():
        shared.setdefault(json.dumps(as_json(settings)), []).append(method)
    return [f"- {', '.join(methods)}: {code(settings)}" for settings, methods in shared.items()]


def _metric(name: str) -> str:
    return f", {CORRELATIONS[name]}" if name in CORRELATIONS else ""


def _read_how(head: TuningHead) -> str:
    if head.benchmark.startswith("glue/"):
        return "The rows are those of validation that select no model (`docs/glue.md`)."
    if head.benchmark == "instruct":
        return "What an answer is worth only a judge can say (`docs/instruct.md`)."
    return (
        "Training learns the completion alone. Answers are generated, and read by the protocol's own rules "
        "(`docs/commonsense-arithmetic.md`)."
    )


def _rates(head: TuningHead, units: Sequence[TrainedUnit]) -> list[str]:
    """How each method's learning rate was chosen, if it was."""
    if len(head.rates) < 2:
        return []
    rows = []
    for method in head.settings:
        tried = {unit.learning_rate: unit.held_out for unit in units if unit.method == method and unit.held_out}
        chosen = chosen_rate(units, method, head.question_seed, head.rates)
        shown = [_held_out(tried.get(rate)) for rate in head.rates]
        rows.append([method, *shown, NOTHING if chosen is None else f"{chosen:g}"])
    return [
        "## Learning rates",
        table(["method", *(f"{rate:g}" for rate in head.rates), "chosen"], rows),
        f"Each tried with seed {head.question_seed}, and chosen by accuracy, else by loss, on {count(head.held_out)} "
        "held-out rows that no test set asks and nothing else is trained or scored on.",
    ]


def _held_out(metrics: Mapping[str, float] | None) -> str:
    if metrics is None:
        return NOTHING
    return ", ".join(f"{name.removeprefix('eval_')} {number(value)}" for name, value in metrics.items())


def _score(row: MethodScore, name: str) -> str:
    return estimated(row.sets[name].score) if name in row.sets else NOTHING


def _seeds(row: MethodScore, name: str) -> str:
    found = row.sets.get(name)
    if found is None or not found.by_seed:
        return NOTHING
    return ", ".join(f"{seed}: {rate(value)}" for seed, value in found.by_seed.items())


def _unread(row: MethodScore) -> str:
    return rate(sum(score.unread for score in row.sets.values()) / len(row.sets))
