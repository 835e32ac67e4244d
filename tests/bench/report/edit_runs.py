import math
from typing import Any

from roselora.bench.metrics.run_summary import summarize_run
from roselora.bench.records.edit_bench_records import Cost, EditHead, EditRecord, RunPart, Scores, TokenAccuracy
from roselora.bench.report.edit_markdown import edit_sections

HEAD = EditHead(
    parts=(RunPart("roselora bench edit --model tiny | tee <log>", ("rose",), {"torch": "2.13"}, {"threads": 1}),),
    model="tiny",
    model_sha256="ab" * 32,
    dataset="made",
    data_file="made.json",
    data_sha256="cd" * 32,
    mode="single",
    n=12,
    skip=0,
    skipped=("made/7", "made/9"),
    seed=3,
    methods={"no-edit": {}, "lora": {"rank": 8, "norm": math.inf}, "rose": {"density": 0.05}},
    fluency=True,
    requests_per_call={"no-edit": 1, "lora": 1, "rose": 1},
)


def record(case: int, method: str, reliability: float, locality: float, kl: float = 0.25) -> EditRecord:
    tokens = TokenAccuracy(0.5, None, {}, {"Forgetfulness": 1.0})
    scores = Scores("x", reliability, None, {}, {"Forgetfulness": locality}, kl, None, tokens)
    return EditRecord(f"made/{case}", method, case, scores, Cost(1.0 + case, 3 * 2**20, 40, 25))


def run_of(**methods: tuple[float, float]) -> list[EditRecord]:
    """Twelve cases of each method with one reliability and one locality for all."""
    return [record(case, name.replace("_", "-"), *values) for name, values in methods.items() for case in range(12)]


def failed(method: str, error: str = "No subject | in <this> case.") -> list[EditRecord]:
    return [EditRecord(f"made/{case}", method, case, None, None, error) for case in range(12)]


def report(records: list[EditRecord], head: EditHead = HEAD, **options: Any) -> str:
    return "\n\n".join(filter(None, edit_sections(summarize_run(head, records, **options), {})))


def section(page: str, title: str) -> str:
    """What stands under a heading."""
    (found,) = (part for part in page.split("\n## ") if part.startswith(f"{title}\n"))
    return found.removeprefix(f"{title}\n").strip()


def cells(page: str, title: str, row: str) -> list[str]:
    (found,) = (line for line in section(page, title).splitlines() if line.startswith(f"| {row} |"))
    return [cell.strip() for cell in found.strip("|").split(" | ")]
