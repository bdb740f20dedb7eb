"""Ray Serve's autoscaling policy, run by Serve's controller, and the log that outlives it.

The controller is one process for a cluster: what is imported here stays small (a test counts).
"""

from forebay.serving.scaling.scaling_log import node_seconds

__all__ = ["node_seconds"]
