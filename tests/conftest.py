"""Set-up of every test process: one thread, a Flower that stays offline, derandomised laws."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Generator
from importlib.metadata import version

import pytest
from hypothesis import HealthCheck, settings

# Before torch, Flower or Ray is imported; processes started by tests inherit it.
os.environ.update(
    OMP_NUM_THREADS="1",  # float sums depend on the number of threads
    MPLBACKEND="Agg",
    FLWR_TELEMETRY_ENABLED="0",
    FLWR_DISABLE_UPDATE_CHECK="1",
    FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION="1",
    RAY_USAGE_STATS_ENABLED="0",
)

settings.register_profile(
    "fedcircuit",
    derandomize=True,  # the same examples on every machine
    deadline=None,  # a slow machine is no failure
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("fedcircuit")

OLD_FLOWER = tuple(map(int, version("flwr").split(".")[:2])) < (1, 30)
NO_DIMENSIONS = "this release of Flower computes with no entries without dimensions"
_flower_home = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Give Flower a home of its own, and import torch with one thread if a plugin came first."""
    home = tempfile.TemporaryDirectory(prefix="fedcircuit-flower-")
    config.stash[_flower_home] = home
    os.environ["FLWR_HOME"] = home.name
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker is left alone with them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Spare the garbage collector what was imported: it would look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """Skip what an older Flower cannot do, observed or not: average entries without dimensions."""
    try:
        return (yield)
    except Exception as error:
        if OLD_FLOWER and "Invalid arguments for Array" in str(error):
            pytest.skip(NO_DIMENSIONS)
        raise


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove Flower's home."""
    config.stash[_flower_home].cleanup()
