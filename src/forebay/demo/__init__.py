"""`make demo`: the platform brought up, measured, overloaded and watched recovering."""

from forebay.demo.launch_run import run_launch
from forebay.demo.run import FACTORS, REQUESTS, STAGE_S, Shown, run_demo

__all__ = ["FACTORS", "REQUESTS", "STAGE_S", "Shown", "run_demo", "run_launch"]
