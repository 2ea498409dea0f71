"""Records to test with: Hypothesis strategies, one worked round, and equality bit for bit."""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable, Mapping
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedcircuit.records.rounds.round_record import (
    ClientRecord,
    Failure,
    Observation,
    RoundRecord,
    Table,
)

DTYPES = ("float32", "float16", "float64", "int64", "bool", "uint8", "int32")
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.floats() | st.integers(-(2**53), 2**53)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Arrays of any bits (NaN payloads and -0.0 too), often mostly zero, 0-d and empty ones."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=40))
    size = int(np.prod(shape))
    seed, density = draw(st.integers(0, 999)), draw(st.sampled_from([0.0, 0.005, 0.05, 0.5, 1.0]))
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (size, dtype.itemsize), dtype=np.uint8)
    if dtype == np.bool_:
        raw %= 2
    zeros = np.zeros(size, dtype)
    if dtype.kind == "f" and size:  # no -0.0, one of them, or many
        zeros[rng.random(size) < draw(st.sampled_from([0.0, 1 / size, 0.5]))] = -0.0
    cut = rng.random(size) >= density
    raw[cut] = np.frombuffer(zeros.tobytes(), np.uint8).reshape(raw.shape)[cut]
    return np.frombuffer(raw.tobytes(), dtype=dtype).reshape(shape)


weights = st.dictionaries(names, arrays(), max_size=4)
metrics = st.dictionaries(names, numbers, max_size=3)


def nine_digits(number: float) -> float:
    """A measurement as tables keep it."""
    return float(f"{number:.9g}")


# absent cells among floats are NaN by definition, so the two are not drawn together
columns_of_cells = st.sampled_from(
    [
        st.text(max_size=5) | st.none(),
        st.integers(-(2**70), 2**70) | st.none(),
        st.floats().map(nine_digits) | st.integers(-9, 9),
        st.booleans() | st.none(),
        st.none(),
        st.text(max_size=5) | st.floats().map(nine_digits) | st.booleans(),
    ]
)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Tables of every kind of column."""
    columns = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    n_rows = draw(st.integers(0, 4))
    cells = [
        draw(st.lists(draw(columns_of_cells), min_size=n_rows, max_size=n_rows)) for _ in columns
    ]
    return Table(tuple(columns), tuple(zip(*cells, strict=True)))


extras = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=2),
    max_leaves=5,
)


@st.composite
def records(draw: st.DrawFn, number: int = 0) -> RoundRecord:
    """Whole rounds with any names."""
    clients = draw(st.lists(names, max_size=3, unique=True))
    observers = draw(st.lists(names, max_size=2, unique=True))
    arrays_of = st.dictionaries(names, arrays(), max_size=2)
    return RoundRecord(
        round=number,
        weights=draw(weights),
        clients=tuple(
            ClientRecord(
                client,
                draw(st.integers(0, 10**6)),
                draw(weights),
                draw(metrics),
                draw(st.dictionaries(names, extras, max_size=2)),
                draw(weights),
            )
            for client in clients
        ),
        metrics=draw(metrics),
        observations={
            name: Observation(
                draw(st.dictionaries(names, tables(), max_size=2)),
                {k: v for k, v in draw(arrays_of).items() if k != "scores"},
            )
            for name in observers
        },
        failures=tuple(Failure(*parts) for parts in draw(st.lists(st.tuples(names, names, names)))),
        observer_errors=draw(st.dictionaries(names, names, max_size=2)),
        seconds=draw(metrics),
        state=draw(weights),
    )


def identical(first: object, second: object) -> bool:
    """Equality of values, types and order, where NaN equals NaN and arrays compare by bits."""
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return (first.dtype, first.shape, first.tobytes()) == (
            second.dtype,
            second.shape,
            second.tobytes(),
        )
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return list(first) == list(second) and all(identical(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(identical, first, second))
    if type(first) is not type(second):
        return False
    if hasattr(first, "__dataclass_fields__"):
        return identical(vars(first), vars(second))
    if isinstance(first, float) and isinstance(second, float) and isnan(first):
        return isnan(second)
    return bool(first == second) and str(first) == str(second)  # -0.0 is not 0.0


def a_round(number: int, n_clients: int = 2, seed: int = 0, scale: int = 1) -> RoundRecord:
    """A round as a federation leaves it: sparse clients, a denser average, tables, masks."""
    rng = np.random.default_rng([seed, number])

    def some_weights(share: float) -> dict[str, Any]:
        kernel = rng.standard_normal((16 * scale, 8, 3, 3)).astype(np.float32)
        kernel[rng.random(kernel.shape) >= share] = 0
        return {
            "conv.weight": kernel,
            "conv.bias": rng.standard_normal(16 * scale).astype(np.float32),
            "bn.num_batches_tracked": np.array(number * 7, dtype=np.int64),
        }

    masks = rng.random((n_clients + 1, 3, 21)) < 0.3
    overlap = Table(
        ("client", "class", "iou", "p_value"),
        tuple((str(i), c, nine_digits(rng.random()), float("nan")) for i in range(n_clients)
              for c in range(3)),
    )  # fmt: skip
    return RoundRecord(
        round=number,
        weights=some_weights(0.2),
        clients=tuple(
            ClientRecord(str(i), 10 + i, some_weights(0.02), {"loss": 0.5 / (i + 1)}, {"v": "1"})
            for i in range(n_clients)
        ),
        metrics={"accuracy": 0.1 * number},
        observations={
            "circuits": Observation(
                {
                    "sites": Table(
                        ("site", "n_units", "live", "axis", "output"),
                        (("conv", 16, 15, 1, "relu"), ("fc", 5, 5, -1, "fc")),
                    ),
                    "models": Table(("model",), (("global",), *((str(i),) for i in
                                                               range(n_clients)))),
                    "overlap": overlap,
                },
                {"masks": np.packbits(masks, axis=-1), "found": masks.any(-1)},
            )
        },
        seconds={"train": 1.5},
        state={"m:10": rng.standard_normal(3), "m:9": rng.standard_normal(3)},
    )  # fmt: skip


def files_of(folder: Path) -> dict[str, bytes]:
    """All files of a folder but its lock, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def forked(work: Callable[[], object]) -> int:
    """Process id of a child that does the work and ends with 0, or with 1 where it raises."""
    with warnings.catch_warnings():  # Python 3.12 warns of threads; the child starts none
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001  # the child must never come back into the test run
            traceback.print_exc()
        finally:
            os._exit(1)
    return child
