"""What would mend a run: its recorded updates under other aggregation rules."""

from fedcircuit.app.mending.telling import Rounds, asked_for, tell
from fedcircuit.app.mending.what_if import Measured, WhatIf, what_if

__all__ = ["Measured", "Rounds", "WhatIf", "asked_for", "tell", "what_if"]
