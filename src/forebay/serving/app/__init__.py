"""A replica's parts put together, and the application that Ray Serve runs."""

from forebay.serving.app.build import engine_kwargs
from forebay.serving.app.dtypes import engine_dtype
from forebay.serving.app.environment import model_threads, replica_variables
from forebay.serving.app.ports import free_ports
from forebay.serving.app.replica_process import EngineLimits, Replica

__all__ = [
    "EngineLimits",
    "Replica",
    "engine_dtype",
    "engine_kwargs",
    "free_ports",
    "model_threads",
    "replica_variables",
]
