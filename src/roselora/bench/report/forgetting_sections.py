"""The part of a fine-tuning report on what each model can still do elsewhere, and what training took away."""

from collections.abc import Sequence
from dataclasses import asdict

from roselora.bench.metrics.capability import PERPLEXITY, ability_score
from roselora.bench.metrics.forgetting import AbilityDifference, ability_differences
from roselora.bench.metrics.run_summary import OURS
from roselora.bench.records.run_files import BASE
from roselora.bench.records.tuning_bench_records import Abilities
from roselora.bench.report.cells import capability_cell
from roselora.bench.report.report_files import section
from roselora.markdown import NOTHING, bounds, count, rate, table


def forgetting_sections(abilities: Sequence[Abilities]) -> list[str]:
    """Two tables with their explanations; nothing if nothing was measured."""
    if not abilities:
        return []
    figures = list(dict.fromkeys(name for one in abilities for name in one.outcomes))
    methods = list(dict.fromkeys(one.method for one in abilities))
    trained = [method for method in methods if method != BASE]
    pairs = [(method, BASE, method) for method in trained]
    if OURS in trained:
        pairs += [(OURS, method, f"{OURS} minus {method}") for method in trained if method != OURS]
    changes = [_changes(ability_differences(abilities, one, other), label, figures) for one, other, label in pairs]
    columns = ["loss, nats per token" if name == PERPLEXITY else name for name in figures]
    return [
        section(
            "What each model can still do",
            table(["method", "seed", *figures], [_measured(one, figures) for one in abilities]),
            "Zero-shot, by lm-eval, on the same questions for all; perplexity on other text, where lower is better. "
            "Mean [95% interval] (n).",
        ),
        section(
            "What training took away",
            table(["", *columns], changes),
            "Trained minus untrained, and our method minus each other one: the mean over the same questions, each "
            "the mean of its seeds, with the paired bootstrap's 95% interval (n). A loss should not rise, and the "
            "other figures should not fall.",
        )
        if trained
        else "",
    ]


def _measured(one: Abilities, figures: Sequence[str]) -> list[str]:
    shown = [
        capability_cell(asdict(ability_score(name, one.outcomes[name]))) if name in one.outcomes else NOTHING
        for name in figures
    ]
    return [one.method, str(one.seed), *shown]


def _changes(found: Sequence[AbilityDifference], label: str, figures: Sequence[str]) -> list[str]:
    shown = {one.figure: f"{rate(one.value)} {bounds(one.low, one.high)} ({count(one.n)})" for one in found}
    return [label, *(shown.get(figure, NOTHING) for figure in figures)]
