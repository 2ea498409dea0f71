"""Figures for papers, each with the data behind it."""

from fedcircuit.report.figures.writing import FIGURES, paper_style, write_figures

__all__ = [
    "FIGURES",
    "paper_style",
    "write_figures",
]
