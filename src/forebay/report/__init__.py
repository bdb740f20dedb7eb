"""HTML reports: each one self-contained page."""

from forebay.report.comparison_words import COLUMNS, cells, headline, rule_line
from forebay.report.load_data import LoadReport, LoadStage
from forebay.report.load_page import render_load_page
from forebay.report.scaling_page import ScalingReport, render_scaling_page, rows

__all__ = [
    "COLUMNS",
    "LoadReport",
    "LoadStage",
    "ScalingReport",
    "cells",
    "headline",
    "render_load_page",
    "render_scaling_page",
    "rows",
    "rule_line",
]
