"""The words of verdicts and statuses: order, symbol, colour and meaning, the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A word of the report with what it looks like; symbols carry it where colour does not."""

    name: str
    symbol: str
    colour: str
    meaning: str


VERDICTS = (
    Word(
        "preserved",
        "●",
        "#6cc5a1",
        "the client's circuit still works inside the averaged weights, and overlaps the global "
        "model's circuit more than chance",
    ),
    Word(
        "relocated",
        "◆",
        "#7aa6dc",
        "the global model recognises the class, but with other units than the client",
    ),
    Word("degraded", "▲", "#d98e2b", "the client's circuit works only partly in the average"),
    Word("collapsed", "✖", "#8e1b3a", "the global model no longer recognises the class"),
)
STATUSES = (
    Word("valid", "", "#ffffff", "a circuit was found that passed every check"),
    Word(
        "undiscovered",
        "?",
        "#e4e0d8",
        "the model recognises the class, but no subset of units passed the checks",
    ),
    Word("not_learned", "–", "#f0ede6", "the full model does not recognise the class"),
    Word("absent", "·", "#faf8f4", "the data have no sample of the class"),
)
