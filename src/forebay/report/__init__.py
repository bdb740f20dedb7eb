"""HTML reports: each one self-contained page."""

from forebay.report.comparison_words import COLUMNS, cells, headline, rule_line
from forebay.report.demo_data import ClientNotes, DemoData, DemoStage, Sample, ServerPoint
from forebay.report.demo_page import render_demo_page
from forebay.report.load_data import LoadReport, LoadStage
from forebay.report.load_page import render_load_page
from forebay.report.scaling_page import ScalingReport, render_scaling_page, rows

__all__ = [
    "COLUMNS",
    "ClientNotes",
    "DemoData",
    "DemoStage",
    "LoadReport",
    "LoadStage",
    "Sample",
    "ScalingReport",
    "ServerPoint",
    "cells",
    "headline",
    "render_demo_page",
    "render_load_page",
    "render_scaling_page",
    "rows",
    "rule_line",
]
