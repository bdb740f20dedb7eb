"""A service on a machine or cluster: started, watched, drained and ended."""

from forebay.serving.cluster.in_time import InTime
from forebay.serving.cluster.load_workers import RayCrew
from forebay.serving.cluster.platform import Platform
from forebay.serving.cluster.preflight import EnvironmentFailedError, check_port

__all__ = ["EnvironmentFailedError", "InTime", "Platform", "RayCrew", "check_port"]
