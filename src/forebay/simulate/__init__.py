"""A fleet in virtual time, made of the objects that production runs.

Each replica is admission (`policies/`) in front of the engine model (`engine_model/`); a router
places requests, and a scaling policy says how many replicas there should be. No clock, no IO: an
hour of traffic takes seconds to minutes, and the same traffic and seed give the same figures. What
is left out stands in docs/decisions/0018-scaling-in-virtual-time.md.
"""

from forebay.simulate.placing import PERIOD_S, ForebayRouter, LeastOngoing, Placed, Router
from forebay.simulate.requests_and_outcomes import Outcome, SimRequest, Slo, asks_of
from forebay.simulate.scalers import Scaler, Static, TokenScaler
from forebay.simulate.scaling_replay import Look, RecordedScaling, read_record, replay, totals
from forebay.simulate.simulated_fleet import Fleet, FleetConfig, FleetRun
from forebay.simulate.simulated_replica import GatedReplica, OpenReplica

__all__ = [
    "PERIOD_S",
    "Fleet",
    "FleetConfig",
    "FleetRun",
    "ForebayRouter",
    "GatedReplica",
    "LeastOngoing",
    "Look",
    "OpenReplica",
    "Outcome",
    "Placed",
    "RecordedScaling",
    "Router",
    "Scaler",
    "SimRequest",
    "Slo",
    "Static",
    "TokenScaler",
    "asks_of",
    "read_record",
    "replay",
    "totals",
]
