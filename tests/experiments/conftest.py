"""Scripts of an experiment import each other by their bare names, as a script's folder allows."""

from __future__ import annotations

import sys
from pathlib import Path

for name in ("attacks", "rules"):
    sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / name))
