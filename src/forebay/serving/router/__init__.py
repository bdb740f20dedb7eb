"""Which replica HAProxy sends a request to, asked over HTTP."""

from forebay.serving.router.ingress import ForebayIngress, has_replicas
from forebay.serving.router.picking import Picked, ReplicaPicker

__all__ = ["ForebayIngress", "Picked", "ReplicaPicker", "has_replicas"]
