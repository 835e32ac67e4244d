"""The report of a fine-tuning benchmark: Markdown, JSON and a picture in one folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from roselora.evaluation.finetuning.plan import BASE
from roselora.evaluation.finetuning.run_files import HEAD, Abilities, Head, read_abilities, read_answers, read_units
from roselora.evaluation.finetuning.scores import Difference, MethodScore, differences, method_scores
from roselora.evaluation.record_files import from_json, refusing, to_json
from roselora.files import write_atomically
from roselora.reports.numbers import (
    NOTHING,
    capability,
    code,
    count,
    estimated,
    mebibytes,
    rate,
    seconds,
    spreaded,
    table,
    text,
)

OURS = "rose"


def write_tuning_report(folder: Path) -> list[Path]:
    """Write what a run shows, be it finished or not; reports that are there are replaced.

    Returns:
        The files that were written.

    Raises:
        FileFormatError: the folder holds no run.
        OSError: a file cannot be written.
    """
    with refusing(f"{folder / HEAD} is not the head of a fine-tuning benchmark"):
        head: Head = from_json(Head, (folder / HEAD).read_bytes())
    answers, units, abilities = read_answers(folder), read_units(folder), read_abilities(folder)
    rows = method_scores(answers, units, (BASE, *head.settings), tuple(head.asked))
    paired = differences(answers, OURS)
    document = {
        "head": to_json(head),
        "methods": [to_json(asdict(row)) for row in rows],
        f"{OURS}_less": [to_json(difference) for difference in paired],
        "abilities": [to_json(one) for one in abilities],
    }
    files = {
        "report.md": _markdown(head, rows, paired, abilities).encode(),
        "report.json": json.dumps(document, indent=2, allow_nan=False).encode() + b"\n",
    }
    if (picture := _plot(rows)) is not None:
        files["entries.png"] = picture
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]


def _markdown(
    head: Head, rows: Sequence[MethodScore], paired: Sequence[Difference], abilities: Sequence[Abilities]
) -> str:
    about = [
        ("command", code(head.command)),
        ("model", f"{text(head.model)}, SHA-256 of its weights {code(head.model_sha256)}"),
        ("protocol", head.protocol),
        ("training", f"{text(head.training)}, {count(head.lessons)} records"),
        *((f"records left out of it, {text(why)}", count(number)) for why, number in head.training_left_out.items()),
        ("seeds of training", ", ".join(map(str, head.seeds))),
        ("questions and training records", f"drawn by seed {head.question_seed}"),
        *((f"SHA-256 of {text(name)}", code(sha256)) for name, sha256 in head.sources.items()),
        ("versions", ", ".join(f"{name} {version}" for name, version in head.versions.items())),
        ("machine", ", ".join(f"{name} {value}" for name, value in head.machine.items())),
    ]
    scores = [
        [row.method, *(_score(row, name) for name in head.asked), NOTHING if row.average is None else rate(row.average)]
        for row in rows
    ]
    by_seed = [[row.method, *(_seeds(row, name) for name in head.asked), *(_unread(row),)] for row in rows if row.sets]
    costs = [
        [
            row.method,
            NOTHING if row.trained is None else count(row.trained),
            NOTHING if row.entries_changed is None else count(row.entries_changed),
            NOTHING if row.file_bytes is None else mebibytes(row.file_bytes),
            spreaded(row.seconds, seconds),
            spreaded(row.peak_bytes, mebibytes),
            spreaded(row.steps, count),
        ]
        for row in rows
    ]
    sets = [f"{name} ({asked} of {head.of[name]})" for name, asked in head.asked.items()]
    parts = [
        f"# Fine-tuning benchmark: {head.benchmark}, {text(head.model)}",
        table(["", ""], about),
        "## Accuracy",
        table(["method", *sets, "average"], scores),
        "Mean [95% interval] (n questions), over questions, each the mean of its seeds: Wilson's interval where all "
        "are 0 or 1, else the percentile bootstrap's (seed 0). The average is the sets' plain mean. After each set's "
        "name: how many of its questions were asked. Answers are generated, and read by the protocol's own rules "
        "(`docs/commonsense-arithmetic.md`).",
        "## By seed",
        table(["method", *head.asked, "answers in which nothing could be read"], by_seed),
        f"## {OURS} less each other method",
        table(
            ["method", "difference, all questions alike", "n"],
            [[d.method, f"{rate(d.value)} [{rate(d.low)}, {rate(d.high)}]", count(d.n)] for d in paired],
        )
        if paired
        else "There is nothing to compare yet.",
        *_abilities(abilities),
        "## Cost",
        table(
            [
                "method",
                "parameters trained",
                "entries changed",
                "file, MiB",
                "seconds of training",
                "peak memory beyond the base, MiB",
                "steps",
            ],
            costs,
        ),
        "Seconds, memory and steps: median (range; runs). Entries changed are counted in the update itself, of "
        "RoseLoRA alone; a dense method changes every entry of the matrices that it adapts.",
        "## Settings",
        "\n".join(f"- {method}: {code(json.dumps(to_json(settings)))}" for method, settings in head.settings.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _abilities(abilities: Sequence[Abilities]) -> list[str]:
    """What each model can still do elsewhere, if it was measured."""
    if not abilities:
        return []
    figures = list(dict.fromkeys(name for one in abilities for name in one.figures))
    rows = [[one.method, str(one.seed), *(capability(one.figures.get(name)) for name in figures)] for one in abilities]
    return [
        "## What each model can still do",
        table(["method", "seed", *figures], rows),
        "Zero-shot, by lm-eval, on the same questions for all; perplexity on other text, where less is better. Mean "
        "[95% interval] (n).",
    ]


def _score(row: MethodScore, name: str) -> str:
    return estimated(row.sets[name].accuracy) if name in row.sets else NOTHING


def _seeds(row: MethodScore, name: str) -> str:
    found = row.sets.get(name)
    return NOTHING if found is None else ", ".join(f"{seed}: {rate(value)}" for seed, value in found.by_seed.items())


def _unread(row: MethodScore) -> str:
    return rate(sum(score.unread for score in row.sets.values()) / len(row.sets))


def _plot(rows: Sequence[MethodScore]) -> bytes | None:
    """Average accuracy against trained parameters."""
    points = [(row.method, row.trained, row.average) for row in rows if row.trained and row.average is not None]
    if not points:
        return None
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for method, trained, average in points:
        axes.plot([trained], [average], marker="o", linestyle="")
        axes.annotate(method, (trained, average), textcoords="offset points", xytext=(6, 4))
    axes.set(xscale="log", xlabel="parameters trained", ylabel="average accuracy", title="Accuracy against size")
    for row in rows:
        if row.method == BASE and row.average is not None:
            axes.axhline(row.average, linestyle="--", color="grey", label="untrained")
            axes.legend()
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    return picture.getvalue()
