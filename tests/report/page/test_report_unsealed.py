"""The page of a run whose rounds have no digests says so."""

from __future__ import annotations

import json
from pathlib import Path

from made_up_runs import Story, make_run

from fedcircuit.records.runs.run import Run
from fedcircuit.report.page.page import write_report


def test_a_run_of_an_earlier_version_says_that_its_rounds_are_not_checked(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", Story(rounds=2)).path
    (path / "recorded").unlink()
    for name in ("manifest.json", "partition.json"):
        content = json.loads((path / name).read_text())
        del content["digest"]
        (path / name).write_text(json.dumps(content))
    lines = [json.loads(line) for line in (path / "rounds.jsonl").read_text().splitlines()]
    rest = [{k: v for k, v in line.items() if k not in ("arrays", "line")} for line in lines]
    (path / "rounds.jsonl").write_text(
        "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in rest)
    )

    page = write_report(Run.load(path)).read_text(encoding="utf-8")

    assert "<td>3 rounds not checked</td>" in page
    assert "without digests: damage to them may pass unseen</td>" in page
