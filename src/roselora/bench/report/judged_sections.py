"""The part of a fine-tuning report that compares answers with references, by a judge or by their likelihood."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

from roselora.bench.metrics.estimates import estimate
from roselora.bench.metrics.likelihood import length_controlled
from roselora.bench.records.tuning_bench_records import Judgement, LikelihoodPair
from roselora.bench.report.cells import estimate_cell
from roselora.bench.report.report_files import section
from roselora.markdown import NOTHING, bounds, count, number, rate, table, text

Compared = TypeVar("Compared", Judgement, LikelihoodPair)


def judged_sections(judgements: Sequence[Judgement], likelihoods: Sequence[LikelihoodPair]) -> list[str]:
    """A table for each judge, and one of likelihoods; nothing if nothing was compared."""
    sections = []
    for judge in dict.fromkeys(one.judge for one in judgements):
        own = [one for one in judgements if one.judge == judge]
        sections.append(
            section(
                f"Win rate by {text(judge)}",
                table(
                    ["method", "win rate", "ties", "unparseable replies"],
                    _by_method(own, _win_rate),
                ),
                "Against the reference outputs of text_davinci_003; a tie counts as half a win, and each question as "
                "the mean of its seeds. Mean [95% interval] (n). The judge's prompt is ours, so this cannot be "
                "compared with AlpacaEval's own figures.",
            )
        )
    if likelihoods:
        sections.append(
            section(
                "Likelihood preference",
                table(
                    [
                        "method",
                        "likelier than the reference, at equal length",
                        "at any length",
                        "mean tokens per answer",
                    ],
                    _by_method(likelihoods, _preferences),
                ),
                "The share of answers whose tokens are likelier by the untrained model than those of "
                "text_davinci_003, [95% interval] (n, each seed's answers counted); at equal length by the regression "
                "in `docs/instruct.md`. This is not a win rate: the untrained model prefers what it would say itself, "
                "good or bad.",
            )
        )
    return sections


def _by_method(records: Sequence[Compared], row: Callable[[str, list[Compared]], list[str]]) -> list[list[str]]:
    """A row for each method, of its own records."""
    methods = dict.fromkeys(one.method for one in records)
    return [row(method, [one for one in records if one.method == method]) for method in methods]


def _win_rate(method: str, own: Sequence[Judgement]) -> list[str]:
    questions: dict[str, list[float]] = defaultdict(list)
    for one in own:
        if one.verdict is not None:
            questions[one.key].append(one.verdict)
    wins = estimate((sum(values) / len(values) for values in questions.values()), share=True)
    ties, unread = sum(one.verdict == 0.5 for one in own), sum(one.verdict is None for one in own)
    return [method, estimate_cell(wins), count(ties), count(unread)]


def _preferences(method: str, own: Sequence[LikelihoodPair]) -> list[str]:
    shown = NOTHING
    if (controlled := length_controlled(own)) is not None:
        value, low, high, n = controlled
        shown = f"{rate(value)} {bounds(low, high)} ({count(n)})"
    plain = estimate((float(one.own > one.reference) for one in own), share=True)
    tokens = sum(one.own_tokens for one in own) / len(own)
    return [method, shown, estimate_cell(plain), number(tokens)]
