"""The words of verdicts and statuses: order, symbol, colour and meaning, the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A word of the report with what it looks like; symbols carry it where colour does not."""

    name: str
    symbol: str
    colour: str
    ink: str  # of the symbol on the colour
    meaning: str

    @property
    def text(self) -> str:
        """The word as people read it."""
        return self.name.replace("_", " ")


_DARK, _LIGHT, _FAINT = "#1b1a18", "#ffffff", "#8a8377"

VERDICTS = (
    Word(
        "preserved",
        "●",
        "#8fd6b5",
        _DARK,
        "the client's circuit still works inside the averaged weights, and shares more units with "
        "the global model's circuit than by chance",
    ),
    Word(
        "relocated",
        "◆",
        "#7aa6dc",
        _DARK,
        "the global model recognises the class, but with other units than the client",
    ),
    Word(
        "degraded",
        "▲",
        "#dd8f2a",
        _DARK,
        "the client's circuit, or the class itself, works only partly in the average",
    ),
    Word("collapsed", "✖", "#8e1b3a", _LIGHT, "the global model no longer recognises the class"),
)
STATUSES = (
    Word(
        "valid",
        "○",
        "#ffffff",
        _DARK,
        "the client's circuit passed every check, but there is nothing to judge it by: no valid "
        "circuit of the global model",
    ),
    Word(
        "undiscovered",
        "?",
        "#dcd6c9",
        _DARK,
        "the client recognises the class, but no subset of units passed the checks",
    ),
    Word(
        "not_finite",
        "!",
        "#efebe2",
        _FAINT,
        "the logits of the client's own model are NaN or infinite",
    ),
    Word("not_learned", "–", "#efebe2", _FAINT, "the client itself does not recognise the class"),
    Word("absent", "·", "#f8f5ef", _FAINT, "the probe has no sample of the class"),
)
VERDICT_NAMES = tuple(word.name for word in VERDICTS)
STATUS_NAMES = tuple(word.name for word in STATUSES)
