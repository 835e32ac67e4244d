"""The part of a fine-tuning report that says what each model can still do elsewhere, and what training took away."""

from collections.abc import Sequence
from dataclasses import asdict

from roselora.bench.metrics.capability import PERPLEXITY, summarised
from roselora.bench.metrics.forgetting import AbilityDifference, ability_differences
from roselora.bench.metrics.run_summary import OURS
from roselora.bench.records.run_files import BASE
from roselora.bench.records.tuning_bench_records import Abilities
from roselora.bench.report.estimate_text import capability
from roselora.markdown import NOTHING, count, rate, table


def forgetting_section(abilities: Sequence[Abilities]) -> list[str]:
    """Two tables with what they mean; nothing if nothing was measured."""
    if not abilities:
        return []
    figures = list(dict.fromkeys(name for one in abilities for name in one.outcomes))
    methods = list(dict.fromkeys(one.method for one in abilities))
    trained = [method for method in methods if method != BASE]
    taken = [_changes(ability_differences(abilities, method, BASE), method, figures) for method in trained]
    compared = [
        _changes(ability_differences(abilities, OURS, method), f"{OURS} less {method}", figures)
        for method in methods
        if OURS in methods and method not in (BASE, OURS)
    ]
    parts = [
        "## What each model can still do",
        table(["method", "seed", *figures], [_kept(one, figures) for one in abilities]),
        "Zero-shot, by lm-eval, on the same questions for all; perplexity on other text, where less is better. Mean "
        "[95% interval] (n).",
    ]
    if taken:
        parts += [
            "## What training took away",
            table(
                ["", *("loss, nats a token" if name == PERPLEXITY else name for name in figures)], [*taken, *compared]
            ),
            "Trained less untrained, and our method less each other one: the mean over the same questions, each the "
            "mean of its seeds, with the paired bootstrap's 95% interval (n). A loss should not "
            "rise, and the rest not fall.",
        ]
    return parts


def _kept(one: Abilities, figures: Sequence[str]) -> list[str]:
    shown = [
        capability(asdict(summarised(name, one.outcomes[name]))) if name in one.outcomes else NOTHING
        for name in figures
    ]
    return [one.method, str(one.seed), *shown]


def _changes(found: Sequence[AbilityDifference], label: str, figures: Sequence[str]) -> list[str]:
    shown = {one.figure: f"{rate(one.value)} [{rate(one.low)}, {rate(one.high)}] ({count(one.n)})" for one in found}
    return [label, *(shown.get(figure, NOTHING) for figure in figures)]
