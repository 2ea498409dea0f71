"""Digests that tie the files of a run together, so that no change on disk passes unseen.

A digest is BLAKE2b with 128 bits, as 22 characters of URL-safe base64.

- ``manifest.json`` holds, under ``digest``, that of its other content;
- a line of ``rounds.jsonl`` or ``evaluations.jsonl`` ends with ``"line"``: the digest of the line
  before (for the first, of ``manifest.json``'s bytes) and of its own bytes up to there, so a line
  that is changed, dropped, doubled, moved or of another run does not fit;
- a round's line holds, under ``arrays``, the digest of the file of its arrays;
- ``partition.json`` and the files in ``evidence/`` hold their own, like the manifest, bound to the
  manifest of the run;
- ``recorded`` holds how many lines are complete, so that a shortened file does not pass as one that
  never had more. It is written after the line: one line more than it says is a process that was
  killed in between.

Runs of earlier versions have none of these and are read without.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

DIGEST = "digest"  # in a file of JSON, over its other content
ARRAYS = "arrays"  # in a line, over the bytes of the arrays' file
SEAL = "line"  # at the end of a line, over its own bytes and the line before
_LINE = f',"{SEAL}":"'.encode()
_END = b'"}\n'
LENGTH = 22


def digest(*parts: bytes) -> str:
    """The digest of these bytes, one part after the other."""
    hashed = blake2b(digest_size=16)
    for part in parts:
        hashed.update(part)
    return urlsafe_b64encode(hashed.digest()).decode().rstrip("=")


def digest_of_file(path: Path) -> str:
    """The digest of a file, read in pieces."""
    hashed = blake2b(digest_size=16)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            hashed.update(piece)
    return urlsafe_b64encode(hashed.digest()).decode().rstrip("=")


def sealed_line(line: bytes, before: str) -> bytes:
    """A line of JSON with its digest at the end.

    Parameters
    ----------
    line
        ``{...}`` and a newline.
    before
        Digest of the line before.
    """
    body = line.removesuffix(b"}\n")
    return body + _LINE + digest(before.encode(), body).encode() + _END


def seal_of(line: bytes) -> tuple[bytes, str | None]:
    """What a line says besides its digest, and the digest; None where it has none."""
    body, mark, rest = line.rpartition(_LINE)
    if not mark or len(rest) != LENGTH + len(_END) or not rest.endswith(_END):
        return line, None
    return body, rest[:LENGTH].decode(errors="replace")


def sealed(content: Mapping[str, Any], bound_to: str = "") -> dict[str, Any]:
    """Content of a file of JSON with its digest, bound to another digest."""
    return {**content, DIGEST: _digest_of(content, bound_to)}


def fits(content: Mapping[str, Any], bound_to: str = "") -> bool | None:
    """Whether a file's content is what its digest says; None where it has none."""
    said = content.get(DIGEST)
    if said is None:
        return None
    return bool(said == _digest_of(content, bound_to))


def bound(seal: str, file: Path) -> str:
    """What a file beside the rounds is bound to: the run, and its own name; empty without digests.

    Parameters
    ----------
    seal
        The digest in the run's manifest.
    file
        The file.
    """
    return f"{seal}/{file.name}" if seal else ""


def _digest_of(content: Mapping[str, Any], bound_to: str) -> str:
    others = {key: value for key, value in content.items() if key != DIGEST}
    text = json.dumps(others, sort_keys=True, separators=(",", ":"))
    return digest(bound_to.encode(), text.encode())
