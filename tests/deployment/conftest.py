"""Scripts of the deployment import each other by their bare names, as a script's folder allows."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "deployment"))
