"""Why a SuperNode ended, in words: read from what it printed."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Ending:
    """Why a process ended.

    Parameters
    ----------
    words
        What happened and what to do.
    final
        True where starting it again cannot help: a person has to do something first.
    """

    words: str
    final: bool


_KNOWN = (
    (
        r"CERTIFICATE_VERIFY_FAILED.*(Hostname mismatch|IP address mismatch)",
        "the SuperLink's certificate is not for the address {superlink}; make one for it with "
        "'deploy.py prepare --host', or connect to a name it was made for",
        True,
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED.*(expired|not yet valid)",
        "the SuperLink's certificate is not valid today; look at the clock of this device, or make "
        "new certificates",
        True,
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        "certificate refused: the SuperLink at {superlink} shows one that was not signed by the "
        "authority in ca.crt; copy the operator's server/ca.crt into this folder",
        True,
    ),
    (
        r"Exit Code: 303",
        "no certificate: there is a key but no ca.crt to check the SuperLink with; copy the "
        "operator's server/ca.crt into this folder",
        True,
    ),
    (
        r"code: 2001",
        "key refused: the SuperLink takes registered keys only; the operator registers key.pub "
        "with 'deploy.py register'",
        True,
    ),
    (
        r"code: 2004",
        "the SuperLink does not let this key in: it counts as online for about a minute after a "
        "SuperNode was killed, or as long as another one uses the same key",
        False,
    ),
    (
        r"HTTP API failed to start|address already in use",
        "port {port} of this device is taken; give another one in node.json",
        True,
    ),
    (
        r"Connection refused|timed out|Name or service not known|Server disconnected",
        "the SuperLink at {superlink} does not answer",
        False,
    ),
)


def ending(output: str, *, superlink: str, port: int) -> Ending:
    """Why a SuperNode ended that printed this."""
    text = _ANSI.sub("", output)
    for pattern, words, final in _KNOWN:
        if re.search(pattern, text, re.DOTALL | re.IGNORECASE):
            return Ending(words.format(superlink=superlink, port=port), final)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return Ending(f"it ended; its last words: {lines[-1][:200] if lines else 'none'}", final=False)
