"""A sweep killed at random moments, in small; the script itself kills twenty times."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_killed_sweep_gives_the_same_tables_bit_for_bit(tmp_path: Path) -> None:
    file = Path(__file__).parents[2] / "experiments" / "reliability" / "killed_sweeps.py"
    spec = importlib.util.spec_from_file_location("killed_sweeps", file)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules["killed_sweeps"] = script
    spec.loader.exec_module(script)

    tally = script.kill_many(tmp_path, kills=2, jobs=1, seed=1)

    assert (tally.kills, tally.wrong) == (2, 0)
    assert tally.ends >= 1
