"""The page, and the comparison of runs: HTML files that open offline."""

from typing import TYPE_CHECKING

from fedcircuit.report.page.compare import comparison_text, write_comparison
from fedcircuit.report.page.page import asset, links_to_looks, page_data, write_report

__all__ = [
    "asset",
    "comparison_text",
    "links_to_looks",
    "page_data",
    "write_comparison",
    "write_report",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
