"""Files that outlive a crash: written whole, locked, digested; errors that name them."""

from fedcircuit.records.files import digests, lock
from fedcircuit.records.files.array_files import (
    Array,
    Arrays,
    TensorFile,
    encode,
    encoded_size,
    to_bytes,
)
from fedcircuit.records.files.digests import DIGEST
from fedcircuit.records.files.disk import (
    TEMPORARY,
    append_line,
    complete_lines,
    cut_torn_line,
    remove_leftovers,
    sync_folder,
    write_whole,
    writing,
)
from fedcircuit.records.files.lock import LOCK, LockedError
from fedcircuit.records.files.read_errors import RunError, UnknownTableError, in_short, reading
from fedcircuit.records.files.write_errors import explained, locked

__all__ = [
    "Array",
    "Arrays",
    "DIGEST",
    "LOCK",
    "LockedError",
    "RunError",
    "TEMPORARY",
    "TensorFile",
    "UnknownTableError",
    "append_line",
    "complete_lines",
    "cut_torn_line",
    "digests",
    "encode",
    "encoded_size",
    "explained",
    "in_short",
    "lock",
    "locked",
    "reading",
    "remove_leftovers",
    "sync_folder",
    "to_bytes",
    "write_whole",
    "writing",
]
