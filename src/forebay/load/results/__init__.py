"""What a run has shown: its folder, what the server said meanwhile, searches over runs."""

from forebay.load.results.folder import (
    RunFolder,
    RunFolderError,
    read_run,
    stage_rows,
    usual_folder,
    without_credentials,
)
from forebay.load.results.measured import Measured, judged, measure
from forebay.load.results.rate_finding import (
    ENOUGH,
    Goal,
    InvalidTrialError,
    RateFound,
    find_rate,
    unfinished,
)
from forebay.load.results.scaling_watch import ScalingFileError, read_decisions, status_reader
from forebay.load.results.scrape import fetch, metrics_of

__all__ = [
    "ENOUGH",
    "Goal",
    "InvalidTrialError",
    "Measured",
    "RateFound",
    "RunFolder",
    "RunFolderError",
    "ScalingFileError",
    "fetch",
    "find_rate",
    "judged",
    "measure",
    "metrics_of",
    "read_decisions",
    "read_run",
    "stage_rows",
    "status_reader",
    "unfinished",
    "usual_folder",
    "without_credentials",
]
