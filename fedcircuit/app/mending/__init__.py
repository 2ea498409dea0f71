"""What would mend a run: its recorded updates under other aggregation rules."""

from fedcircuit.app.mending.what_if import Measured, WhatIf, what_if

__all__ = ["Measured", "WhatIf", "what_if"]
