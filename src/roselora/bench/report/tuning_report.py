"""The report of a fine-tuning benchmark: Markdown, JSON and plots in one folder."""

from pathlib import Path

from roselora.bench.metrics.glue_metrics import CORRELATIONS
from roselora.bench.metrics.learning_rate_choice import chosen_rate
from roselora.bench.metrics.run_summary import OURS
from roselora.bench.metrics.tuning_scores import MethodScore
from roselora.bench.records.run_files import read_records
from roselora.bench.records.tuning_bench_records import Abilities, Judgement, LikelihoodPair, TuningHead
from roselora.bench.report.cells import difference_cell, estimate_cell, optional, range_cell
from roselora.bench.report.forgetting_sections import forgetting_sections
from roselora.bench.report.judged_sections import judged_sections
from roselora.bench.report.report_files import failed_runs_section, section, settings_section, write_report_files
from roselora.bench.report.tuning_plots import tuning_plots
from roselora.bench.report.tuning_summary import TuningSummary, read_summary
from roselora.markdown import NOTHING, code, count, mebibytes, number, rate, seconds, table, text


def write_tuning_report(folder: Path) -> list[Path]:
    """Write what a run shows, finished or not; a report that is there is replaced.

    Returns:
        The files that were written.

    Raises:
        FileFormatError: the folder holds no run.
        OSError: a file cannot be written.
    """
    run, abilities = read_summary(folder), read_records(folder, Abilities)
    sections = [
        f"# Fine-tuning benchmark: {run.head.benchmark}, {text(run.head.model)}",
        _facts(run.head),
        *_scores(run),
        _learning_rates(run),
        *judged_sections(read_records(folder, Judgement), read_records(folder, LikelihoodPair)),
        *forgetting_sections(abilities),
        failed_runs_section(run.head.failures),
        _costs(run),
        settings_section(run.head.settings),
        "The learning rates of the runs are those chosen above." if len(run.head.rates) > 1 else "",
    ]
    document = {"head": run.head, **run.document(), "abilities": abilities}
    return write_report_files(folder, sections, document, tuning_plots(run.methods, abilities))


def _facts(head: TuningHead) -> str:
    rows = [
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
    return table(["", ""], rows)


def _scores(run: TuningSummary) -> list[str]:
    """What was answered to the test sets; nothing if there are none."""
    head = run.head
    if not head.asked:
        return []
    sets = []
    for name, asked in head.asked.items():
        metric = f", {CORRELATIONS[name]}" if name in CORRELATIONS else ""
        sets.append(f"{name}{metric} ({asked} of {head.of[name]})")
    scores = [
        [row.method, *(_set_score(row, name) for name in head.asked), optional(row.average, rate)]
        for row in run.methods
    ]
    by_seed = [
        [row.method, *(_seed_scores(row, name) for name in head.asked), _unread(row)] for row in run.methods if row.sets
    ]
    differences = [[one.method, difference_cell(one), count(one.n)] for one in run.differences]
    return [
        section(
            "Scores",
            table(["method", *sets, "average"], scores),
            "Accuracy, unless a set's name says otherwise: mean [95% interval] (n questions). A question's score is "
            "the mean over seeds; the interval is over questions, Wilson's where all scores are 0 or 1, else the "
            "percentile bootstrap's (seed 0). A correlation is the mean over seeds, with the bootstrap's interval. "
            "The average is the plain mean over the sets. The numbers after a set's name say how many of its "
            f"questions were asked. {_answers_note(head)}",
        ),
        section("By seed", table(["method", *head.asked, "unparseable answers"], by_seed)),
        section(
            f"{OURS} minus each other method",
            table(["method", "difference over all questions", "n"], differences)
            if differences
            else "There is nothing to compare yet.",
        ),
    ]


def _set_score(row: MethodScore, name: str) -> str:
    return estimate_cell(row.sets[name].score) if name in row.sets else NOTHING


def _seed_scores(row: MethodScore, name: str) -> str:
    found = row.sets.get(name)
    if found is None or not found.by_seed:
        return NOTHING
    return ", ".join(f"{seed}: {rate(value)}" for seed, value in found.by_seed.items())


def _unread(row: MethodScore) -> str:
    return rate(sum(score.unread for score in row.sets.values()) / len(row.sets))


def _answers_note(head: TuningHead) -> str:
    if head.benchmark.startswith("glue/"):
        return "The questions are the validation rows that do not choose a learning rate (`docs/glue.md`)."
    if head.benchmark == "instruct":
        return "Only a judge can score the answers (`docs/instruct.md`)."
    return (
        "Training learns the completion alone. Answers are generated, and read by the protocol's own rules "
        "(`docs/commonsense-arithmetic.md`)."
    )


def _learning_rates(run: TuningSummary) -> str:
    """How each method's learning rate was chosen, if it was."""
    head = run.head
    if len(head.rates) < 2:
        return ""
    rows = []
    for method in head.settings:
        tried = {
            unit.learning_rate: unit.held_out
            for unit in run.units
            if (unit.method, unit.seed) == (method, head.question_seed) and unit.held_out
        }
        chosen = chosen_rate(run.units, method, head.question_seed, head.rates)
        shown = [
            ", ".join(f"{name.removeprefix('eval_')} {number(value)}" for name, value in tried[rate].items())
            if rate in tried
            else NOTHING
            for rate in head.rates
        ]
        rows.append([method, *shown, optional(chosen, lambda rate: f"{rate:g}")])
    return section(
        "Learning rates",
        table(["method", *(f"{rate:g}" for rate in head.rates), "chosen"], rows),
        f"Each tried with seed {head.question_seed}, and chosen by accuracy, else by loss, on {count(head.held_out)} "
        "validation examples that are in no test set and used for nothing else.",
    )


def _costs(run: TuningSummary) -> str:
    rows = [
        [
            row.method,
            optional(row.trained, count),
            optional(row.entries_changed, count),
            optional(row.file_bytes, mebibytes),
            optional(row.delta_bytes, mebibytes),
            range_cell(row.seconds, seconds),
            range_cell(row.peak_bytes, mebibytes),
            range_cell(row.steps, count),
        ]
        for row in run.methods
    ]
    columns = [
        "method",
        "parameters trained",
        "entries changed",
        "file, MiB",
        "as a delta, MiB",
        "seconds of training",
        "peak memory beyond the base, MiB",
        "steps",
    ]
    return section(
        "Cost",
        table(columns, rows),
        "Seconds, memory and steps: median (range; runs). Entries changed are those of the base's weights that have "
        "another value once the update is merged, in the first run; a classifier's new head, which every method "
        "trains, counts only among the parameters and in the file. Prefix and LoReFT change no weight. A delta holds "
        "the update of the base's weights, without a head.",
    )
