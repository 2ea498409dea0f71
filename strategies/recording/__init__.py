"""What happens around an aggregation, whatever API the strategy speaks."""

from fedcircuit.strategies.recording.assembly import (
    DiscoverOn,
    Sources,
    build_recorder,
    fitting_probe,
)
from fedcircuit.strategies.recording.memory_of_strategies import as_returned, strategy_state
from fedcircuit.strategies.recording.options import RecorderOptions
from fedcircuit.strategies.recording.recorded_weights import in_dtype
from fedcircuit.strategies.recording.recorder import RoundRecorder
from fedcircuit.strategies.recording.resuming import last_weights, put_resume
from fedcircuit.strategies.recording.wrapping import put_around, warn_of_copy

__all__ = [
    "DiscoverOn",
    "RecorderOptions",
    "RoundRecorder",
    "Sources",
    "as_returned",
    "build_recorder",
    "fitting_probe",
    "in_dtype",
    "last_weights",
    "put_around",
    "put_resume",
    "strategy_state",
    "warn_of_copy",
]
