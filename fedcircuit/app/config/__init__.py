"""What a study says: its schema, and how its file is read."""

from typing import TYPE_CHECKING

from fedcircuit.app.config.data import PartitionConfig
from fedcircuit.app.config.data_examples import EXAMPLES, DataExample
from fedcircuit.app.config.files import ConfigError, load_study, parse_study
from fedcircuit.app.config.rules import RuleConfig
from fedcircuit.app.config.strategy import LipsConfig, StrategyConfig
from fedcircuit.app.config.strategy_options import CLASSES, check_options
from fedcircuit.app.config.study import (
    CircuitsConfig,
    EngineConfig,
    InertiaConfig,
    InformationConfig,
    StorageConfig,
    StudyConfig,
)
from fedcircuit.app.config.trackers import TrackerConfig

__all__ = [
    "CLASSES",
    "CircuitsConfig",
    "ConfigError",
    "DataExample",
    "EXAMPLES",
    "EngineConfig",
    "InertiaConfig",
    "InformationConfig",
    "LipsConfig",
    "PartitionConfig",
    "RuleConfig",
    "StorageConfig",
    "StrategyConfig",
    "StudyConfig",
    "TrackerConfig",
    "check_options",
    "load_study",
    "parse_study",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
