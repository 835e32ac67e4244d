"""The part of a fine-tuning report that says how answers compare with the references that a judge or a model reads."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

from roselora.bench.metrics.estimates import estimate
from roselora.bench.metrics.likelihood import length_controlled
from roselora.bench.records.tuning_bench_records import Judgement, LikelihoodPair
from roselora.bench.report.estimate_text import estimated
from roselora.markdown import NOTHING, count, number, rate, table, text

Record = TypeVar("Record", Judgement, LikelihoodPair)


def judged_section(judged: Sequence[Judgement], weighed: Sequence[LikelihoodPair]) -> list[str]:
    """A table for each judge, and one without a judge; nothing if nothing was compared."""
    parts = []
    for judge in dict.fromkeys(one.judge for one in judged):
        own = [one for one in judged if one.judge == judge]
        parts += [
            f"## Win rate by {text(judge)}",
            table(
                ["method", "win rate", "ties", "replies in which nothing could be read"],
                _by_method(own, _verdicts),
            ),
            "Against the reference outputs of text_davinci_003, a tie as half a win, each question the mean of its "
            "seeds; mean [95% interval] (n). The judge's prompt is ours, so this does not stand beside AlpacaEval's "
            "own figures.",
        ]
    if weighed:
        parts += [
            "## Likelihood preference",
            table(
                ["method", "likelier than the reference, at equal length", "at any length", "tokens an answer, mean"],
                _by_method(weighed, _preferences),
            ),
            "The share of answers that the untrained model holds for likelier a token than text_davinci_003's, [95% "
            "interval] (n, each seed's answers counted); at equal length by the regression in `docs/instruct.md`. It "
            "is no win rate: what the untrained model would say itself is likely to it, good or bad.",
        ]
    return parts


def _by_method(records: Sequence[Record], row: Callable[[str, list[Record]], list[str]]) -> list[list[str]]:
    """A row for each method, of its own records."""
    methods = dict.fromkeys(one.method for one in records)
    return [row(method, [one for one in records if one.method == method]) for method in methods]


def _verdicts(method: str, own: Sequence[Judgement]) -> list[str]:
    questions: dict[str, list[float]] = defaultdict(list)
    for one in own:
        if one.verdict is not None:
            questions[one.key].append(one.verdict)
    wins = estimate((sum(values) / len(values) for values in questions.values()), share=True)
    ties, unread = sum(one.verdict == 0.5 for one in own), sum(one.verdict is None for one in own)
    return [method, estimated(wins), count(ties), count(unread)]


def _preferences(method: str, own: Sequence[LikelihoodPair]) -> list[str]:
    controlled = length_controlled(own)
    plain = estimate((float(one.own > one.reference) for one in own), share=True)
    tokens = sum(one.own_tokens for one in own) / len(own)
    if controlled is None:
        return [method, NOTHING, estimated(plain), number(tokens)]
    value, low, high, n = controlled
    return [method, f"{rate(value)} [{rate(low)}, {rate(high)}] ({count(n)})", estimated(plain), number(tokens)]
