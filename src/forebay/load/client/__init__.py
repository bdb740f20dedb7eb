"""A cheap HTTP client that measures: connections, attempts, answers."""

from forebay.load.client.attempt import Attempt
from forebay.load.client.client_exchange import Exchange
from forebay.load.client.direct import open_directly
from forebay.load.client.http_client import Pool
from forebay.load.client.probe import EndpointError, ProbeTarget, look_at

__all__ = [
    "Attempt",
    "EndpointError",
    "Exchange",
    "Pool",
    "ProbeTarget",
    "look_at",
    "open_directly",
]
