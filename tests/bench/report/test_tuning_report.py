import json
from typing import Any

from roselora.bench.report.tuning_report import write_tuning_report
from roselora.bench.running.tuning_plan import TuningRequest


def test_the_report_says_what_was_run_and_what_each_method_scored(finished: TuningRequest) -> None:
    names = {path.name for path in write_tuning_report(finished.folder)}
    assert names == {"report.md", "report.json", "entries.png"}
    shown = (finished.folder / "report.md").read_text()
    document: dict[str, Any] = json.loads((finished.folder / "report.json").read_text())
    assert "boolq (2 of 2)" in shown
    assert "Commonsense-17K (4 of 8 sources), 4 records" in shown
    for row in document["methods"]:
        assert f"| {row['method']} |" in shown
        assert row["sets"]["boolq"]["score"]["n"] == 2
    assert document["head"]["seeds"] == [0, 1]
