"""Two runs of one battery, test by test: what plain LoRA passes and ours does not."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

OUTCOMES = ("passed", "failed", "skipped", "refused")

Outcomes = Mapping[str, Mapping[str, Any]]
"""By test id: ``outcome``, one of OUTCOMES; ``why``, a message; and counts, ``configs`` among them."""


@dataclass
class FileRow:
    """One line of the table: how many tests of a file ended how, with plain LoRA and with ours."""

    lora: Counter[str] = field(default_factory=Counter)
    roselora: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Difference:
    """A test that plain LoRA passes and ours fails, or that only one run has.

    Attributes:
        test: its id in the run with plain LoRA.
        why: the message of the failure.
        reason: why it is right that they differ; empty where nobody has said so.
    """

    test: str
    why: str
    reason: str


@dataclass
class Comparison:
    """The whole result: one row a file, every difference, every sentence of refusal, what failed in both."""

    files: dict[str, FileRow]
    differences: list[Difference]
    refusals: Counter[str]
    failed_in_both: dict[str, str]

    @property
    def unexplained(self) -> list[Difference]:
        """Those that fail the job."""
        return [difference for difference in self.differences if not difference.reason]

    def as_json(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {
            "files": {
                name: {"lora": dict(row.lora), "roselora": dict(row.roselora)} for name, row in self.files.items()
            },
            "differences": [asdict(difference) for difference in self.differences],
            "refusals": dict(self.refusals),
            "failed_in_both": self.failed_in_both,
        }


def plain_id(test: str) -> str:
    """The id that a test of our run has in the run with plain LoRA."""
    return test.replace("RoseLora", "Lora")  # some ids hold the class's name without its "Config"


def compare(lora: Outcomes, roselora: Outcomes, reasons: Mapping[str, str]) -> Comparison:
    """Compare the tests that make a LoRA config.

    A refusal is neither a pass nor a failure. A test that only one run has, or that ours skips and plain LoRA
    passes, is a difference: a battery that shrinks must not look like one that passes.

    Args:
        lora: the run with plain LoraConfig.
        roselora: the same battery with RoseLoraConfig in its place.
        reasons: by a part of a test's id, why ours may differ there.
    """
    ours = {plain_id(test): result for test, result in roselora.items()}
    result = Comparison({}, [], Counter(), {})
    for test in sorted({*lora, *ours}):
        pair = [run.get(test, {"outcome": "missing", "why": "this run has no such test"}) for run in (lora, ours)]
        if not any(one.get("configs") for one in pair):
            continue
        plain, rose = pair
        row = result.files.setdefault(test.partition("::")[0], FileRow())
        row.lora[plain["outcome"]] += 1
        row.roselora[rose["outcome"]] += 1
        if rose["outcome"] == "refused":
            result.refusals[rose["why"]] += 1
        elif plain["outcome"] == rose["outcome"] == "failed":
            result.failed_in_both[test] = plain["why"]
        elif plain["outcome"] != rose["outcome"] and rose["outcome"] != "passed":
            reason = next((reason for part, reason in reasons.items() if part in test), "")
            result.differences.append(Difference(test, rose["why"], reason))
    return result


def failures(result: Comparison, pruning: Mapping[str, int], files: Iterable[str]) -> list[str]:
    """Why the job fails, one sentence each; empty if it passes.

    Args:
        result: the comparison.
        pruning: the plugin's counts over our whole run.
        files: the test files that were to be run.
    """
    sentences = [f"{difference.test} fails with ours alone." for difference in result.unexplained]
    sentences += [f"{name} has no test that makes a LoRA config." for name in files if name not in result.files]
    if not pruning["pruning_steps"]:
        sentences.append("No optimizer step pruned anything: the battery has tested plain LoRA twice.")
    if pruning["factors_left_dense"]:
        sentences.append(f"{pruning['factors_left_dense']} factors were dense after a step that should prune them.")
    return sentences


def table(result: Comparison) -> str:
    """The rows as a Markdown table, with a sum at the end."""
    lines = [
        "| file | LoRA: passed | failed | skipped | RoseLoRA: passed | failed | skipped | refused |",
        "|---|---|---|---|---|---|---|---|",
    ]
    total = FileRow()
    for name, row in result.files.items():
        lines.append(_line(name.removeprefix("tests/"), row))
        total.lora += row.lora
        total.roselora += row.roselora
    return "\n".join([*lines, _line("all", total)])


def _line(name: str, row: FileRow) -> str:
    cells = [row.lora[outcome] for outcome in OUTCOMES[:3]] + [row.roselora[outcome] for outcome in OUTCOMES]
    return f"| {name} | " + " | ".join(str(cell) for cell in cells) + " |"
