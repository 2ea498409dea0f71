"""Figures for papers, each with the data behind it."""

from typing import TYPE_CHECKING

from fedcircuit.report.figures.plots import BLUE, GREY, new_picture
from fedcircuit.report.figures.writing import (
    FIGURES,
    FORMATS,
    paper_style,
    save_picture,
    write_figures,
)

__all__ = [
    "BLUE",
    "FIGURES",
    "FORMATS",
    "GREY",
    "new_picture",
    "paper_style",
    "save_picture",
    "write_figures",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
