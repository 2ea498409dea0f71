"""Replies that cannot enter an average, one a line, with the kind of failure they must become."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

Content = dict[str, Any]
FIRST = "0.weight"


def raw(values: np.ndarray) -> Array:
    """An Array of anything that NumPy can save."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=True)
    return Array(str(values.dtype), tuple(values.shape), "numpy.ndarray", buffer.getvalue())


def claiming(shape: tuple[int, ...], version: bytes = b"\x01\x00") -> Array:
    """An Array whose header claims a shape, without the values."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    size = len(header).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return Array("float32", (1,), "numpy.ndarray", b"\x93NUMPY" + version + size + header)


def first(change: Callable[[np.ndarray], Any]) -> Callable[[Content], Any]:
    """Change the first array of a reply: to another Array, or other values."""

    def act(content: Content) -> None:
        changed = change(content["arrays"][FIRST].numpy().copy())
        content["arrays"][FIRST] = changed if isinstance(changed, Array) else raw(changed)

    return act


def metrics(**changes: Any) -> Callable[[Content], Any]:
    """Change what a reply reports; None takes an entry out."""

    def act(content: Content) -> None:
        named = {k.replace("num_", "num-"): v for k, v in changes.items()}
        known = {**dict(content["metrics"]), **named}
        content["metrics"] = MetricRecord({k: v for k, v in known.items() if v is not None})

    return act


def named(partition: Any) -> Callable[[Content], Any]:
    """Say another partition."""
    return lambda content: content["fedcircuit"].update({"partition-id": partition})


def put(values: np.ndarray, value: float) -> np.ndarray:
    """The values with another one in the first place."""
    values.flat[0] = value
    return values


BAD: dict[str, tuple[Callable[[Content], Any], str]] = {
    "NaN": (first(lambda v: put(v, np.nan)), "non-finite"),
    "infinity": (first(lambda v: put(v, -np.inf)), "non-finite"),
    "huge weight": (first(lambda v: put(v, 1e30)), "magnitude"),
    "largest float": (first(lambda v: np.full_like(v, 3e38)), "magnitude"),
    "just above the limit": (first(lambda v: put(v, -1.1e12)), "magnitude"),
    "other shape": (first(lambda v: v[:2]), "shape"),
    "shape that broadcasts": (first(lambda v: v[:1]), "shape"),
    "missing array": (lambda c: c["arrays"].pop(FIRST), "names"),
    "extra array": (lambda c: c["arrays"].update({"x": raw(np.zeros(1))}), "names"),
    "two ArrayRecords": (lambda c: c.update(more=ArrayRecord(dict(c["arrays"].items()))), "names"),
    "no ArrayRecord": (lambda c: c.pop("arrays"), "names"),
    "no MetricRecord": (lambda c: c.pop("metrics"), "names"),
    "integers": (first(lambda v: (v * 100).astype(np.int64)), "dtype"),
    "truth values": (first(lambda v: v > 0), "dtype"),
    "complex": (first(lambda v: v.astype(np.complex64)), "dtype"),
    "long complex": (first(lambda v: v.astype(np.complex128)), "unreadable"),
    "long double": (first(lambda v: v.astype(np.longdouble)), "unreadable"),
    "text": (first(lambda v: v.astype("U8")), "unreadable"),
    "bytes": (first(lambda v: v.astype("S8")), "unreadable"),
    "objects": (first(lambda v: v.astype(object)), "unreadable"),
    "dates": (first(lambda v: np.zeros(v.shape, "datetime64[s]")), "unreadable"),
    "records": (first(lambda v: np.zeros(v.shape, [("a", "f4")])), "unreadable"),
    "garbage": (
        first(lambda v: Array("float32", v.shape, "numpy.ndarray", b"\x93NUMPY garbage")),
        "unreadable",
    ),
    "a broken header": (
        first(lambda v: Array("float32", v.shape, "numpy.ndarray", b"\x93NUMPY\x01\x00\xff\xff{")),
        "unreadable",
    ),
    "no bytes": (first(lambda v: Array("float32", v.shape, "numpy.ndarray", b"")), "unreadable"),
    "10^12 entries": (first(lambda v: claiming((10**12, 64))), "unreadable"),
    "10^12 entries, version 2": (
        first(lambda v: claiming((10**12, 64), b"\x02\x00")), "unreadable",
    ),
    "negative sides": (first(lambda v: claiming((-1, 6))), "unreadable"),
    "another serialisation": (
        first(lambda v: Array("float32", v.shape, "pickle", raw(v).data)), "unreadable",
    ),
    "no examples": (metrics(num_examples=0), "count"),
    "negative examples": (metrics(num_examples=-5), "count"),
    "NaN examples": (metrics(num_examples=float("nan")), "count"),
    "infinite examples": (metrics(num_examples=float("inf")), "count"),
    "10^18 examples": (metrics(num_examples=10**18), "count"),
    "1e308 examples": (metrics(num_examples=1e308), "count"),
    "1e-320 examples": (metrics(num_examples=1e-320), "count"),
    "a list of examples": (metrics(num_examples=[1, 2]), "count"),
    "uncounted examples": (metrics(num_examples=None), "count"),
    "one metric less": (metrics(train_loss=None), "metrics"),
    "a list for a number": (metrics(train_loss=[1.0, 2.0]), "metrics"),
    "the global model's name": (named("global"), "identity"),
    "the name of all classes": (named("all"), "identity"),
    "a mean's name": (named("mean of clients"), "identity"),
    "a node's name": (named("node-0"), "identity"),
    "another's name": (named(0), "identity"),
    "a new name": (named(77), "identity"),
    "5,000 digits": (named("9" * 5000), "identity"),
    "a very long name": (named("a" * 100_000), "identity"),
    "no name": (named(""), "identity"),
    "a list as name": (named([1, 2]), "identity"),
    "bytes as name": (named(b"\xff"), "identity"),
    "a truth value as name": (named(True), "identity"),
    "control characters": (named("a\x00\n"), "identity"),
    "half a character": (named("\ud800"), "identity"),
}  # fmt: skip

HARMLESS: dict[str, Callable[[Content], Any]] = {
    "half precision": first(lambda v: v.astype(np.float16)),
    "double precision": first(lambda v: v.astype(np.float64)),
    "big-endian": first(lambda v: v.astype(">f4")),
    "columns first": first(np.asfortranarray),
    "100 MB beside": lambda c: c["fedcircuit"].update(blob=b"\0" * 100_000_000),
    "class counts that are none": lambda c: c["fedcircuit"].update({"class-counts": "nonsense"}),
    "masks that do not fit": lambda c: c["fedcircuit"].update(
        {"masks": b"x", "masks-found": [True], "masks-units": 10**9, "validity": "{"}
    ),
    "kept entries that are none": lambda c: c["fedcircuit"].update({"lips-kept": b"zzz"}),
    "one metric more": metrics(only_me=1.0),
    "a list among numbers": metrics(hist=[1.0, 2.0]),
    "20,000 metrics": lambda c: c.update(
        metrics=MetricRecord({**dict(c["metrics"]), **{f"m{i}": 1.0 for i in range(20_000)}})
    ),
    "half a character in a text": lambda c: c["fedcircuit"].update(note="\ud800"),
}


def spoilt(content: RecordDict, change: Callable[[Content], Any]) -> RecordDict:
    """A reply's content with a change."""
    parts: Content = dict(content.items())
    parts["arrays"] = ArrayRecord(dict(parts["arrays"].items()))
    parts["fedcircuit"] = ConfigRecord(dict(parts["fedcircuit"].items()))
    change(parts)
    return RecordDict(parts)
