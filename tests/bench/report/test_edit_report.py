import json
from dataclasses import replace
from pathlib import Path

from roselora.bench.report.edit_report import write_report
from tests.bench.report.edit_runs import HEAD, failed, run_of


def test_the_report_has_markdown_json_and_plots_with_the_same_content(tmp_path: Path) -> None:
    records = run_of(no_edit=(0.0, 1.0), rose=(1.0, 0.5)) + failed("lora")
    paths = write_report(replace(HEAD, mode="sequential"), records, tmp_path)
    names = ["report.md", "report.json", "scores.png", "reliability_by_age.png", "costs.png"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    page = (tmp_path / "report.md").read_text()
    for path in paths[2:]:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert f"]({path.name})" in page
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["head"]["model_sha256"] == HEAD.model_sha256
    assert found["bootstrap_seed"] == 0
    rose = found["methods"][2]
    assert (
        rose["method"],
        rose["forms"]["bare"]["means"]["reliability"]["value"],
        rose["forms"]["bare"]["means"]["reliability"]["n"],
    ) == ("rose", 1.0, 12)
    assert {"ours": "rose", "other": "no-edit", "verdict": "loses"}.items() <= next(
        item for item in found["comparisons"] if item["metric"] == "locality"
    ).items()
    assert found["reliability_by_age"]["bare"]["rose"][0]["oldest"] == 11


def test_a_run_without_records_is_a_report_without_plots(tmp_path: Path) -> None:
    assert [path.name for path in write_report(HEAD, [], tmp_path)] == ["report.md", "report.json"]
