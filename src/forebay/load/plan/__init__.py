"""What is to be sent: where, with which bodies, by which worker."""

from forebay.load.plan.content import COMMON_WORDS, plain_ids
from forebay.load.plan.plan import Message, Target, WireFormat
from forebay.load.plan.request_bodies import PATHS, Api, BodyMaker, Spoken
from forebay.load.plan.worker_plan import (
    CLASS_HEADER,
    ORDER_IS_WRONG,
    Asking,
    Endpoint,
    Playing,
    WorkerPlan,
)

__all__ = [
    "CLASS_HEADER",
    "COMMON_WORDS",
    "ORDER_IS_WRONG",
    "PATHS",
    "Api",
    "Asking",
    "BodyMaker",
    "Endpoint",
    "Message",
    "Playing",
    "Spoken",
    "Target",
    "WireFormat",
    "WorkerPlan",
    "plain_ids",
]
