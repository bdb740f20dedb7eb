"""Which replica a request goes to: the one that predicts the earliest first token."""

from forebay.policies.routing.own_prefixes import OwnPrefixes, under_salt
from forebay.policies.routing.prefix_index import LONGEST_TEXT, chunk_hashes
from forebay.policies.routing.replica_view import ReplicaStats
from forebay.policies.routing.router_policy import Prompt, RoutingPolicy

__all__ = [
    "LONGEST_TEXT",
    "OwnPrefixes",
    "Prompt",
    "ReplicaStats",
    "RoutingPolicy",
    "chunk_hashes",
    "under_salt",
]
