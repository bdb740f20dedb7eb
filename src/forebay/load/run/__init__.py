"""A run: its workers, the driver of each, and what they bring back."""

from forebay.load.run.runner import LoadPlan, LoadRun, OnTick, Workers, run_load, without_tail
from forebay.load.run.shard import PartFacts, Shard
from forebay.load.run.table import RecordsError, read_records, write_records

__all__ = [
    "LoadPlan",
    "LoadRun",
    "OnTick",
    "PartFacts",
    "RecordsError",
    "Shard",
    "Workers",
    "read_records",
    "run_load",
    "without_tail",
    "write_records",
]
