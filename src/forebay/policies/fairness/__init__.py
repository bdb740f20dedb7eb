"""Whose turn it is: fair-queueing tags, queues in their order, what each flow asks for."""

from forebay.policies.fairness.fair_queue import FairQueue
from forebay.policies.fairness.flow_demand import FlowDemand
from forebay.policies.fairness.flow_slots import most_held
from forebay.policies.fairness.held_queue import HeldQueue
from forebay.policies.fairness.overtaking import Arrivals, Flow, Rival, prolonged, rivals
from forebay.policies.fairness.tag_queue import TagQueue

__all__ = [
    "Arrivals",
    "FairQueue",
    "Flow",
    "FlowDemand",
    "HeldQueue",
    "Rival",
    "TagQueue",
    "most_held",
    "prolonged",
    "rivals",
]
