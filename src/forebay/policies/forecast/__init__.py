"""What becomes of a request here: what is promised, how fast the engine is, when tokens come.

The ledger holds what has been promised; the step law and the paces say how fast it is worked off.
"""

from forebay.policies.forecast.batch_pacing import BatchPacing, Place
from forebay.policies.forecast.concurrency_limits import ConcurrencyLimits, EngineSize
from forebay.policies.forecast.expected_ttft import ExpectedTTFT
from forebay.policies.forecast.ledger import Answers, Ledger
from forebay.policies.forecast.next_step import NextStep
from forebay.policies.forecast.own_time import Way
from forebay.policies.forecast.paces import Paces
from forebay.policies.forecast.step_work import StepWork
from forebay.policies.forecast.waiting_time import Prediction
from forebay.policies.forecast.waits import Waits

__all__ = [
    "Answers",
    "BatchPacing",
    "ConcurrencyLimits",
    "EngineSize",
    "ExpectedTTFT",
    "Ledger",
    "NextStep",
    "Paces",
    "Place",
    "Prediction",
    "StepWork",
    "Waits",
    "Way",
]
