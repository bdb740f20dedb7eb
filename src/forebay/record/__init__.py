"""Recording: production traffic becomes a trace without a word of it, and a trace a workload."""

from forebay.record.access_logs import CONFIGURATION
from forebay.record.files import UnreadableFileError, total_bytes
from forebay.record.fit_words import COLUMNS, cells, verdict_lines, workload_lines
from forebay.record.heads import target_of
from forebay.record.log_lines import ReadLine, Rules
from forebay.record.logs import LogTotals, UnreadableLogError, line_reader, record_logs
from forebay.record.proxy_process import ProxyPlan, Pulse, run
from forebay.record.pseudonyms import Pseudonyms
from forebay.record.sizes import BlockSize
from forebay.record.trace_fit import Fitted, WouldOverwriteError, fit_trace, read_rows

__all__ = [
    "COLUMNS",
    "CONFIGURATION",
    "BlockSize",
    "Fitted",
    "LogTotals",
    "ProxyPlan",
    "Pseudonyms",
    "Pulse",
    "ReadLine",
    "Rules",
    "UnreadableFileError",
    "UnreadableLogError",
    "WouldOverwriteError",
    "cells",
    "fit_trace",
    "line_reader",
    "read_rows",
    "record_logs",
    "run",
    "target_of",
    "total_bytes",
    "verdict_lines",
    "workload_lines",
]
